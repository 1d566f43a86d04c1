# shellcheck shell=sh
# apply: says old -> new for each key; with --write sets it, reads it back, and writes the files that set it at the next boot.
#
# Guarantees: the backup is on disk before the first change; every file is written by renaming; a second run changes nothing;
# what could not be set is named, is in no file, and makes the status 1. A run that is cut off leaves what revert takes back.

dropin_unit=/etc/systemd/system/ringpost.service.d/90-tuning.conf
dropin_sysfs=/etc/tmpfiles.d/ringpost-tuning.conf
dropin_udev=/etc/udev/rules.d/90-ringpost-tuning.rules

apply() {
    find_owners
    apply_plan='' apply_bad='' apply_rows='' apply_notes=''
    each_knob apply_look
    [ -z "$apply_rows" ] || printf '%s\n' "$apply_rows" | aligned
    printf '%s' "$apply_notes"
    note_of_managers
    [ "$image" = no ] || printf 'an image: only files are written, for %s cores as here; the settings of this machine stay\n' "$CORES"
    apply_foreign=$(dropins_of_others)
    if [ -z "$apply_plan" ] && [ -n "$apply_bad" ]; then
        : # said below
    elif [ -z "$apply_plan" ]; then
        printf 'nothing to set for %s sessions (%s)\n' "$N" "$profile"
    elif [ -n "$apply_foreign" ]; then
        # shellcheck disable=SC2086 # one line for each
        printf 'nothing is changed: %s is there, and not as apply wrote it: look at it, move it away, and apply again\n' $apply_foreign >&2
        exit 1
    elif [ "$write" = no ]; then
        printf 'nothing was changed: this is what --write would do. It would keep the old values in %s\n' "$backup"
    elif ! apply_write; then
        [ ! -f "$ROOT$backup" ] || printf 'cut short; the old values are in %s: tune revert --write restores them\n' "$backup"
        exit 1
    fi
    [ -z "$apply_bad" ] || { printf 'not as wanted:%s\n' "$apply_bad"; exit 1; }
    exit 0
}

apply_look() {
    owners_of "$key"
    # What a file says that is read at boot anyway is not undercut.
    case $state:$owned in low:well) target=$owned_value ;; esac
    case $state in
        low | missing)
            if [ "$kind" = look ]; then
                apply_bad="$apply_bad $(knob_key_shown)"
                apply_notes="${apply_notes}note: $knob: $why
"
            else
                [ "$kind" != unit ] || target=$(apply_unit_value)
                apply_plan_line "$target" "$target"
                # Somebody may have forbidden it on purpose.
                [ -z "$unless" ] || apply_notes="${apply_notes}note: $knob: $(knob_field "$here/knobs/$knob" risk)
"
            fi
            ;;
        cannot)
            apply_bad="$apply_bad $(knob_key_shown)"
            apply_notes="${apply_notes}note: $(knob_key_shown): $why
"
            ;;
        'not here') [ -z "$why" ] || apply_notes="${apply_notes}note: $knob: $why
" ;;
    esac
    [ -z "$others" ] || apply_notes="$apply_notes$others
"
    case $owned:$state in
        ill:*) apply_bad="$apply_bad $key(at-the-next-boot)" ;;
        curable:ok) apply_plan_line "$now" "$(printf '%s\t(at the next boot, too)' "$now")" ;;
    esac
}

# apply_plan_line VALUE SHOWN
apply_plan_line() {
    apply_rows="$apply_rows${apply_rows:+
}$(printf '%s:\t%s\t->\t%s' "$(knob_key_shown)" "${now:-unknown}" "$2")"
    apply_plan="$apply_plan${apply_plan:+
}$(printf '%s\t%s\t%s\t%s' "$kind" "$(apply_key)" "$now" "$1")"
}

# The path below /sys where the kind is sysfs, else the key.
apply_key() { if [ "$kind" = sysfs ]; then knob_key_shown; else printf '%s' "$key"; fi; }

# As a unit writes it: 30 of RLIMIT_NICE is a niceness of -10.
apply_unit_value() { if [ "$key" = LimitNICE ]; then printf '%s' "-$((target - 20))"; else printf '%s' "$target"; fi; }

apply_write() {
    backup_add "$apply_plan" || return 1
    apply_tab=$(printf '\t')
    # The plan is read from a descriptor of its own, so that this shell, not a child of it, notes what failed.
    while IFS="$apply_tab" read -r apply_kind apply_name apply_old apply_new; do
        case $apply_kind in
            sysctl) set_value "$apply_name" "$ROOT/proc/sys/$(printf '%s' "$apply_name" | tr . /)" ;;
            sysfs) set_value "$apply_name" "$ROOT$apply_name" ;;
        esac
    done <<PLAN
$apply_plan
PLAN
    write_dropins || return 1
    read_back_units
    if [ -z "$ROOT" ] && [ -d /run/systemd/system ] && [ -n "$(backup_newest unit)" ]; then
        systemctl daemon-reload || apply_bad="$apply_bad systemd(daemon-reload)"
        printf 'limits of ringpost.service count from its next start: systemctl restart ringpost\n'
    fi
    printf 'done; the old values are in %s: tune revert --write restores them\n' "$backup"
}

# set_value KEY PATH, of $apply_kind, $apply_old and $apply_new.
set_value() {
    [ "$image" = no ] || return 0
    set_error=$({ printf '%s\n' "$apply_new" >"$2"; } 2>&1) && set_error=''
    set_has=''
    if file_value "$2"; then set_has=$value; fi
    [ "$set_has" != "$apply_new" ] || return 0
    if [ -z "$set_error" ] && set_suffices; then
        backup_add "$(printf '%s\t%s\t%s\t%s' "$apply_kind" "$apply_name" "$apply_old" "$set_has")"
        printf 'note: %s: the kernel made %s of %s\n' "$1" "$set_has" "$apply_new"
        return 0
    fi
    if [ -n "$set_error" ]; then
        printf 'tune: %s could not be set: %s\n' "$1" "${set_error##*: }" >&2
    else
        printf 'tune: %s could not be set to %s: the kernel keeps %s\n' "$1" "$apply_new" "${set_has:-nothing}" >&2
    fi
    apply_bad="$apply_bad $1"
    if [ "$set_has" = "$apply_old" ]; then
        backup_drop "$apply_kind" "$apply_name" "$apply_new"
    else
        backup_add "$(printf '%s\t%s\t%s\t%s' "$apply_kind" "$apply_name" "$apply_old" "$set_has")"
    fi
}

# A value that the kernel rounded in the right direction is as good.
set_suffices() {
    for set_name in $(knob_names); do
        knob_load "$set_name"
        [ "$(apply_key)" = "$apply_name" ] || continue
        knob_wants "$set_has"
        [ "$fits" = yes ]
        return
    done
    return 1
}

# The limits that were planned, as the files of the unit say them now.
read_back_units() {
    while IFS="$apply_tab" read -r apply_kind apply_name apply_old apply_new; do
        [ "$apply_kind" = unit ] || continue
        unit_has=$(unit_value "$apply_name")
        [ "$unit_has" != "$apply_new" ] || continue
        printf 'tune: ringpost.service %s is %s after it was set to %s\n' "$apply_name" "${unit_has:-nothing}" "$apply_new" >&2
        apply_bad="$apply_bad ringpost.service $apply_name"
    done <<PLAN
$apply_plan
PLAN
}

# dropins_of_others: files that would be written, and are there already, not as a run of apply wrote them: they would be lost.
dropins_of_others() {
    dropin_plan=$({ cat "$ROOT$backup" 2>/dev/null; printf '%s\n' "$apply_plan"; } | cut -f 1,2)
    for dropin_path in "$dropin_sysctl" "$dropin_unit" "$dropin_sysfs" "$dropin_udev"; do
        case $dropin_path in
            "$dropin_sysctl") dropin_for=sysctl ;;
            "$dropin_unit") dropin_for=unit ;;
            "$dropin_sysfs") dropin_for=sysfs ;;
            *) dropin_for='sysctl.*nf_conntrack' ;;
        esac
        printf '%s\n' "$dropin_plan" | grep -q "^$dropin_for" || continue
        [ -e "$ROOT$dropin_path" ] || [ -L "$ROOT$dropin_path" ] || continue
        dropin_sum=$(cksum 2>/dev/null <"$ROOT$dropin_path") || dropin_sum=none
        dropin_sums=$(awk -F '\t' -v key="$dropin_path" '$1 == "file" && $2 == key { print $4 }' "$ROOT$backup" 2>/dev/null)
        case "|$dropin_sums|" in *"|$dropin_sum|"*) ;; *) printf '%s\n' "$dropin_path" ;; esac
    done
}

# From the backup, so that a second profile adds to the first.
write_dropins() {
    head_of_file="# Written by kernel-tuning/tune apply; taken away by tune revert. Do not edit."
    backup_newest sysctl | awk -F '\t' '{ print ($1 ~ /nf_conntrack/ ? "-" : "") $1 " = " $2 }' |
        dropin "$dropin_sysctl" || return 1
    backup_newest sysfs | awk -F '\t' '{ print "w " $1 " - - - - " $2 }' | dropin "$dropin_sysfs" || return 1
    backup_newest unit | awk -F '\t' 'NR == 1 { print "[Service]" } { print $1 "=" $2 }' |
        dropin "$dropin_unit" || return 1
    # Its keys come with the module, which may be loaded after sysctl.d was read.
    case $(backup_newest sysctl) in *nf_conntrack*) printf '%s, %s, %s, %s\n' 'ACTION=="add"' 'SUBSYSTEM=="module"' \
        'KERNEL=="nf_conntrack"' 'RUN+="/lib/systemd/systemd-sysctl --prefix=/net/netfilter"' ;; esac | dropin "$dropin_udev"
}

# dropin PATH < LINES: one that is changed is noted with the sum of its bytes; without lines there is none.
dropin() {
    dropin_text=$(cat)
    [ -n "$dropin_text" ] || return 0
    dropin_text="$head_of_file
$dropin_text"
    [ "$(cat "$ROOT$1" 2>/dev/null)" != "$dropin_text" ] || return 0
    dropin_sum=$(printf '%s\n' "$dropin_text" | cksum)
    # Noted first: a file that is not there yet is nothing to remove.
    backup_add "$(printf 'file\t%s\t-\t%s' "$1" "$dropin_sum")" || return 1
    printf '%s\n' "$dropin_text" | put "$ROOT$1" || return 1
    printf 'wrote %s\n' "$1"
}
