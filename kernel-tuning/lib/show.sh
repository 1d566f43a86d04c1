# shellcheck shell=sh
# check and explain: they look, and print.
#
# Never does: writing anything.

# Lines of fields with tabs between them, as a table.
aligned() {
    awk -F '\t' '
        { fields[NR] = NF
          for (i = 1; i <= NF; i++) { cell[NR, i] = $i; if (length($i) > wide[i]) wide[i] = length($i) } }
        END {
            for (r = 1; r <= NR; r++) {
                line = ""
                for (i = 1; i <= fields[r]; i++) line = line sprintf("%-" wide[i] "s  ", cell[r, i])
                sub(/ +$/, "", line)
                print line
            }
        }'
}

# each_knob COMMAND: for every knob of the profile, loaded and looked at.
each_knob() {
    for each_name in $(knob_names); do
        knob_load "$each_name"
        knob_is_of "$profile" || continue
        assess
        "$@"
    done
}

check() {
    find_owners
    check_rows=$(printf 'state\tknob\tsetting\tnow\twanted\n') check_notes='' check_bad=0 check_unseen=''
    each_knob check_one
    printf '%s\n' "$check_rows" | aligned
    printf '%s' "$check_notes"
    [ "$profile" = generator ] || note_of_listeners
    note_of_managers
    if [ "$check_bad" = 0 ]; then
        printf 'ok: as wanted for %s sessions (%s)%s\n' "$N" "$profile" "${check_unseen:+; not here: $check_unseen}"
        exit 0
    fi
    printf '%s of the settings above not as wanted for %s sessions (%s): %s\n' "$check_bad" "$N" "$profile" \
        'tune apply says what it would set, tune explain why'
    exit 1
}

check_one() {
    check_wanted=$(knob_wanted)
    check_rows="$check_rows
$(printf '%s\t%s\t%s\t%s\t%s' "$state" "$knob" "$(knob_key_shown)" "${now:--}" "$check_wanted")"
    check_state=$state
    [ -z "$why" ] || check_notes="${check_notes}note: $knob: $why
"
    [ "$check_state" != 'not here' ] || check_unseen="$check_unseen${check_unseen:+, }$knob"
    owners_of "$key"
    [ -z "$others" ] || check_notes="$check_notes$others
"
    case $owned:$check_state in
        ill:ok | ill:'not here' | curable:ok | curable:'not here') check_bad=$((check_bad + 1)) ;;
    esac
    case $check_state in ok | 'not here') ;; *) check_bad=$((check_bad + 1)) ;; esac
}

# The rule in words; the value of a look.
knob_wanted() {
    case $kind:$key in
        look:*) printf 'at least %s' "$target" ;;
        # RLIMIT_NICE is 20 minus a niceness, and a unit says the latter.
        *:LimitNICE) (knob_wants '' && printf '%s or lower' "-$((target - 20))") ;;
        *) (knob_rule_in_words) ;;
    esac
}

explain() {
    find_owners
    for explain_name in $(if [ -n "$1" ]; then printf '%s' "$1"; else knob_names; fi); do
        knob_load "$explain_name"
        [ -n "$1" ] || knob_is_of "$profile" || continue
        assess
        explain_one
    done
    exit 0
}

explain_one() {
    printf '%s: %s\n' "$knob" "$(knob_key_shown)"
    {
        printf 'now\t%s (%s)%s\n' "${now:--}" "$state" "${why:+: $why}"
        printf 'wanted\t%s for %s sessions, %s cores, %s MiB\n' "$(knob_wanted)" "$N" "$CORES" "$((memory_kib / 1024))"
        for explain_field in what why verified risk since profile; do
            printf '%s\t%s\n' "$explain_field" "$(knob_field "$here/knobs/$knob" "$explain_field")"
        done
    } | while IFS="$(printf '\t')" read -r explain_field explain_text; do
        printf '%s\n' "$explain_text" | fold -s -w 108 | sed "1s/^/$(printf '  %-9s ' "$explain_field")/; 2,\$s/^/            /; s/ *\$//"
    done
    owners_of "$key"
    printf '%s\n' "$others${others:+
}"
}
