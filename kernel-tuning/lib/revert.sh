# shellcheck shell=sh
# revert: restores what apply found, and removes the files that it made.
#
# Guarantees: a value or file that somebody else has changed since is left, and named; the backup goes last, and stays if
# anything could not be restored. Never does: guessing an old value.

revert() {
    if [ ! -f "$ROOT$backup" ]; then
        # What a run left that was cut off before its first change.
        [ "$write" = no ] || { rm -f "$ROOT$backup.new" && rmdir "$ROOT$backup_dir"; } 2>/dev/null || :
        printf 'nothing to revert: there is no %s\n' "$backup"
        exit 0
    fi
    [ -r "$ROOT$backup" ] || { printf 'tune: cannot read %s: root can\n' "$backup" >&2; exit 1; }
    revert_bad='' revert_did=''
    revert_tab=$(printf '\t')
    # An empty field must stay a field: tabs are white space to read.
    while IFS='^' read -r revert_kind revert_key revert_old revert_set; do
        case $revert_kind in
            sysctl) revert_value "$ROOT/proc/sys/$(printf '%s' "$revert_key" | tr . /)" ;;
            sysfs) revert_value "$ROOT$revert_key" ;;
            file) revert_file ;;
        esac
    done <<LINES
$(tr "$revert_tab" '^' <"$ROOT$backup")
LINES
    [ -n "$revert_did" ] || printf 'nothing of it is set any more\n'
    if [ "$write" = no ]; then
        printf 'nothing was changed: this is what --write would do\n'
        exit 0
    fi
    if [ -z "$ROOT" ] && [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
    if [ -n "$revert_bad" ]; then
        printf 'could not be restored:%s; the old values stay in %s\n' "$revert_bad" "$backup"
        exit 1
    fi
    if ! { rm -f "$ROOT$backup.new" "$ROOT$backup" && on_disk "$ROOT$backup_dir" && rmdir "$ROOT$backup_dir"; } 2>/dev/null; then
        printf 'tune: cannot remove %s: %s\n' "$backup" "$(who_can "$ROOT$backup")" >&2
        exit 1
    fi
    printf 'done\n'
    exit 0
}

# revert_value PATH
revert_value() {
    { [ "$image" = no ] && [ -n "$revert_old" ]; } || return 0 # of an image nothing was set
    if ! file_value "$1"; then
        [ ! -e "$1" ] || { printf 'tune: %s cannot be read\n' "$revert_key" >&2; revert_bad="$revert_bad $revert_key"; }
        return 0
    fi
    [ "$value" != "$revert_old" ] || return 0
    case "|$revert_set|" in
        *"|$value|"*) ;;
        *)
            printf '%s: left at %s, which somebody else has set since; it was %s\n' "$revert_key" "$value" "$revert_old"
            revert_did=yes
            return 0
            ;;
    esac
    revert_did=yes
    printf '%s: %s -> %s\n' "$revert_key" "$value" "$revert_old"
    [ "$write" = yes ] || return 0
    revert_error=$({ printf '%s\n' "$revert_old" >"$1"; } 2>&1) && revert_error=''
    file_value "$1" || value=''
    if [ "$value" != "$revert_old" ]; then
        printf 'tune: %s could not be restored: %s\n' "$revert_key" "${revert_error:-it is ${value:-empty} afterwards}" >&2
        revert_bad="$revert_bad $revert_key"
    fi
}

revert_file() {
    [ "$write" = no ] || rm -f "$ROOT$revert_key.new" 2>/dev/null
    [ -e "$ROOT$revert_key" ] || return 0
    revert_did=yes
    case "|$revert_set|" in
        *"|$(cksum <"$ROOT$revert_key")|"*) ;;
        *)
            printf '%s: left, somebody else has changed it since\n' "$revert_key"
            return 0
            ;;
    esac
    printf '%s: removed\n' "$revert_key"
    [ "$write" = yes ] || return 0
    rm -f "$ROOT$revert_key" 2>/dev/null || { printf 'tune: cannot remove %s\n' "$revert_key" >&2; revert_bad="$revert_bad $revert_key"; }
    # Made for it, unless others put files there, too.
    case $revert_key in */ringpost.service.d/*) rmdir "$(dirname "$ROOT$revert_key")" 2>/dev/null || : ;; esac
}
