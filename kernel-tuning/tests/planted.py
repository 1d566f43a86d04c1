"""Faults planted in a copy of the tool, each of which the named test must catch."""

from machine import copy_of_the_tool

# test, file, what is there, what is there instead
FAULTS = (
    ("check_names_what_is_low_and_changes_nothing", "lib/show.sh", "exit 1", "exit 0"),
    ("apply_is_a_dry_run_unless_told", "lib/apply.sh", 'elif [ "$write" = no ]; then', "elif false; then"),
    ("apply_sets_and_persists", "lib/apply.sh", '{ printf \'%s\\n\' "$apply_new" >"$2"; }', "{ :; }"),
    ("apply_twice_changes_nothing", "lib/apply.sh", '[ -z "$apply_plan" ]', "false"),
    ("the_backup_keeps_the_first_values", "lib/backup.sh", "!(id in old) {", "{"),
    ("revert_restores_everything", "lib/revert.sh", 'printf \'%s\\n\' "$revert_old" >"$1"', ":"),
    ("revert_leaves_what_somebody_else_changed", "lib/revert.sh", '*"|$value|"*) ;;', "*) ;;"),
    ("better_values_stay", "lib/knob.sh", "at-least) wants_bad=$((wants_have < wants_value))", "at-least) wants_bad=1"),
    ("the_limit_of_the_unit_fits_below_nr_open", "lib/now.sh", "unit_limit=$(unit_value LimitNOFILE)", "unit_limit="),
    ("a_file_of_the_unit_that_overrules_is_named", "lib/now.sh", 'if unit_overrules "$unit_by"; then', "if false; then"),
    ("the_defaults_of_systemd_are_read", "lib/now.sh", 'last_said "Default$1"', 'last_said "$1"'),
    ("a_file_of_somebody_else_is_not_overwritten", "lib/apply.sh", 'elif [ -n "$apply_foreign" ]; then', "elif false; then"),
    ("one_run_writes_at_a_time", "lib/backup.sh", "flock -n 9 ||", "true ||"),
    ("a_refusal_keeps_what_was_set_before", "lib/backup.sh", 'if (list == "") next', "next"),
    ("a_higher_limit_is_written_where_many_sessions_need_it", "lib/now.sh", "N * 5 / 4 / CORES", "N / 1000 / CORES"),
    ("garbage_is_left_alone", "lib/knob.sh", '"$wants_word" || { fits=garbled; return; }', '"$wants_word" || wants_word=0'),
    ("without_rights_keys_cannot_be_set", "lib/now.sh", '[ -w "$assess_path" ] ||', "true ||"),
    ("without_a_backup_nothing_is_changed", "lib/apply.sh", 'backup_add "$apply_plan" || return 1', ":"),
    ("a_key_that_keeps_its_value_is_named", "lib/apply.sh", '[ "$set_has" != "$apply_new" ] || return 0', "return 0"),
    ("a_rounded_value_is_as_good", "lib/apply.sh", '[ "$fits" = yes ]\n        return', "return 1"),
    ("an_apply_that_is_cut_off_is_undone", "lib/apply.sh", '    backup_add "$apply_plan" || return 1\n', ""),
    ("an_image_gets_files", "lib/now.sh", "image=yes", "image=no"),
    ("an_image_gets_files", "lib/now.sh", '[ "$wants_verb" = at-least ]; then', "false; then"),
    ("a_chroot_is_an_image", "lib/now.sh", "|| same_kernel", ""),
    ("apply_sets_and_persists", "tune", "umask 022", ":"),
    ("the_port_range_is_the_generators_alone", "knobs/port-range", "profile: generator", "profile: both"),
    ("tcp_tw_recycle_is_never_set", "knobs/tw-reuse", "tcp_tw_reuse\nrule: is 1", "tcp_tw_recycle\nrule: is 1"),
    ("io_uring_for_one_group_is_enough", "knobs/io-uring", "unless: io_uring_group\n", ""),
    ("what_is_not_loaded_is_not_here", "lib/now.sh", "state='not here'\n        why=$(knob_field", "state=low\n        why=$(knob_field"),
    ("memory_and_kernel_are_looked_at", "lib/looks.sh", "-lt 6013", "-lt 5000"),
    ("usage_errors_are_told_apart", "tune", "exit 2\n}", "exit 1\n}"),
    ("usage_errors_are_told_apart", "tune", "--write=* | --help=*) wrong", "never) wrong"),
    ("what_a_file_says_is_not_undercut", "lib/apply.sh", "low:well) target=$owned_value ;;", "never) ;;"),
    ("a_later_file_of_sysctl_d_has_the_last_word", "lib/owners.sh", "owned_if_ill=ill", "owned_if_ill=curable"),
    ("an_earlier_file_is_overruled", "lib/owners.sh", 'else owned=$owned_if_ill; fi', "else owned=well; fi"),
    ("etc_hides_the_same_name_below", "lib/owners.sh", "sort -s -u -t", "sort -s -t"),
    ("sysctl_conf_is_read_last", "lib/owners.sh", "printf '%s\\n' \"$ROOT/etc/sysctl.conf\"", ":"),
    ("tuned_is_named_with_what_it_includes", "lib/owners.sh", "(tuned_profile \"$tuned_other\" $(($2 + 1)))", ":"),
    ("tuned_is_named_with_what_it_includes", "lib/owners.sh", '] || outcome=$now ;;', '] || : ;;'),
    ("a_kubernetes_node_is_named", "lib/owners.sh", "/var/lib/kubelet/config.yaml", "/var/lib/kubelet/other.yaml"),
    ("every_knob_is_explained", "lib/show.sh", "in what why verified risk since profile", "in what why risk since profile"),
    ("no_knob_breaks_clients", "knobs/somaxconn", "net.core.somaxconn\n", "net.ipv4.tcp_tw_recycle\n"),
    ("the_readme_lists_every_knob", "README.md", "| `somaxconn` |", "| somaxconn |"),
    ("what_tune_sources_is_all_there_is", "tune", "# shellcheck source=lib/revert.sh\n", ""),
    ("real_sysctls_are_set_and_restored", "lib/apply.sh", '($1 ~ /nf_conntrack/ ? "-" : "") $1 " = " $2', '"# " $1 " = " $2'),
    ("the_real_port_range_is_the_generators", "knobs/port-range", "profile: generator", "profile: both"),
    ("read_only_keys_are_told_in_a_sentence", "lib/now.sh", "options ~ /^ro(,|$)/", "options ~ /^never/"),
    ("another_user_can_look", "lib/now.sh", "printf 'root can'", "printf 'nobody can'"),
    ("a_port_range_that_is_refused_is_told", "lib/apply.sh", 'apply_bad="$apply_bad $1"', ":"),
    ("a_running_listener_is_shown", "lib/looks.sh", "$3 > most[pid]", "!(pid in most) || $3 < most[pid]"),
)


def run(tests, outcome):
    """One fault after the other; 1 if one was not caught, or a test has none."""
    missed = sorted(set(tests) - {fault[0] for fault in FAULTS})
    for name in missed:
        print(f"  FAIL  {name}: no fault is planted for it")
    chosen = [fault for fault in FAULTS if fault[0] in tests]
    uncaught = 0
    for name, file, there, instead in chosen:
        with copy_of_the_tool() as tool:
            text = (tool / file).read_text()
            (tool / file).write_text(text.replace(there, instead))
            why = outcome(tests[name], tool)
        caught = there in text and why is not None and "needs root" not in why
        uncaught += not caught
        print(f"  {'ok  ' if caught else 'FAIL'}  {name}: {file} with {instead!r} in place of {there!r}", flush=True)
    print(f"{len(chosen) - uncaught} caught, {uncaught} not caught, {len(missed)} without a fault")
    return 1 if uncaught or missed else 0
