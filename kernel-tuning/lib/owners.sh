# shellcheck shell=sh
# Who else sets the same keys: files of sysctl.d, tuned, Kubernetes.
#
# Guarantees: the order is that of sysctl.d(5): by file name whatever the directory, a name in /etc hides the same name below
# it, /etc/sysctl.conf last. Never does: changing what others own.

dropin_sysctl=/etc/sysctl.d/99-zz-ringpost.conf

# One line each, in the order in which they are applied at boot: FILE<tab>KEY<tab>VALUE.
sysctl_settings() {
    {
        for owners_dir in /etc /run /usr/local/lib /usr/lib /lib; do
            for owners_file in "$ROOT$owners_dir"/sysctl.d/*.conf; do
                [ -f "$owners_file" ] || [ -L "$owners_file" ] || continue
                printf '%s\t%s\n' "${owners_file##*/}" "$owners_file"
            done
        done | LC_ALL=C sort -s -u -t "$(printf '\t')" -k 1,1 | cut -f 2
        printf '%s\n' "$ROOT/etc/sysctl.conf"
    } | while IFS= read -r owners_file; do
        [ -f "$owners_file" ] || continue # a link to /dev/null masks
        awk -v file="${owners_file#"$ROOT"}" '
            /^[ \t]*([#;]|$)/ { next }
            { at = index($0, "="); if (!at) next
              key = substr($0, 1, at - 1); value = substr($0, at + 1)
              gsub(/^[ \t]*-?[ \t]*|[ \t]+$/, "", key); gsub(/^[ \t]+|[ \t]+$/, "", value); gsub(/[ \t]+/, " ", value)
              if (match(key, /[.\/]/) && substr(key, RSTART, 1) == "/") gsub("/", ".", key)
              print file "\t" key "\t" value }' "$owners_file" 2>/dev/null
    done
}

# The settings of the active tuned profile and those that it includes: FILE<tab>KEY<tab>VALUE, the last wins.
tuned_settings() {
    [ -f "$ROOT/etc/tuned/active_profile" ] || return 0
    # shellcheck disable=SC2013 # names have no spaces
    for tuned_name in $(cat "$ROOT/etc/tuned/active_profile"); do tuned_profile "$tuned_name" 0; done
}

tuned_profile() {
    [ "$2" -lt 8 ] || return 0
    for tuned_dir in /etc/tuned/profiles /etc/tuned /usr/lib/tuned/profiles /usr/lib/tuned; do
        [ -f "$ROOT$tuned_dir/$1/tuned.conf" ] || continue
        # In a subshell: the included ones use the same names.
        # shellcheck disable=SC2013 # words
        for tuned_other in $(awk -F= '
            /^[ \t]*\[/ { main = ($0 ~ /\[main\]/) }
            main && $1 ~ /^[ \t]*include[ \t]*$/ { gsub(/,/, " ", $2); print $2 }' "$ROOT$tuned_dir/$1/tuned.conf"); do
            (tuned_profile "$tuned_other" $(($2 + 1)))
        done
        awk -v file="tuned profile $1 ($tuned_dir/$1/tuned.conf)" '
            /^[ \t]*([#;]|$)/ { next }
            /^[ \t]*\[/ { on = ($0 ~ /^[ \t]*\[sysctl\]/); disk = ($0 ~ /^[ \t]*\[disk\]/); next }
            { at = index($0, "="); key = substr($0, 1, at - 1); value = substr($0, at + 1)
              gsub(/[ \t]/, "", key); gsub(/^[ \t]+|[ \t]+$/, "", value); gsub(/[ \t]+/, " ", value)
              if (match(value, /^[<>] /)) value = substr(value, 1, 1) substr(value, 3) }
            at && on { print file "\t" key "\t" value }
            # In KiB, or with an s in sectors.
            at && disk && key == "readahead" {
                sign = ""
                if (value ~ /^[<>]/) { sign = substr(value, 1, 1); value = substr(value, 2) }
                if (value ~ /s$/) value = int(value / 2)
                print file "\t" "block/@DISK@/queue/read_ahead_kb" "\t" sign value
            }' "$ROOT$tuned_dir/$1/tuned.conf"
        return 0
    done
}

# tuned_wins FILE: whether it has the last word over a file that sets the same key. It reads /etc and /run again after itself, unless
# it is told not to (tuned-main.conf, reapply_sysctl), and never /usr (redhat-performance/tuned, pull request 226).
tuned_wins() {
    case $1 in '' | /usr/* | /lib/*) return 0 ;; esac
    grep -Eqi '^[[:space:]]*reapply_sysctl[[:space:]]*=[[:space:]]*(0|false|no)' "$ROOT/etc/tuned/tuned-main.conf" 2>/dev/null
}

# Once, before owners_of.
find_owners() {
    owners_sysctl=$(sysctl_settings)
    owners_tuned=$(tuned_settings)
}

# outcome_of VALUE: what it makes of the value of now. tuned's >N sets where less is set, <N where more is.
outcome_of() {
    case $1 in '>'* | '<'*) ;; *) printf '%s' "$1"; return ;; esac
    outcome=${1#?}
    if is_number "$outcome" && is_number "$now"; then
        case $1 in
            '>'*) [ "$(bounded "$now")" -le "$(bounded "$outcome")" ] || outcome=$now ;;
            *) [ "$(bounded "$now")" -ge "$(bounded "$outcome")" ] || outcome=$now ;;
        esac
    fi
    printf '%s' "$outcome"
}

# owners_of KEY: sets others, lines of what else sets the loaded knob's key, and owned: well (what has the last word at the next boot
# suits: owned_value), ill (it does not), curable (it does not, but a file of ours would have the last word), or nothing (nobody
# sets it).
owners_of() {
    others='' owned='' owned_value=''
    owners_tab=$(printf '\t')
    owners_last=$(printf '%s\n' "$owners_sysctl" | awk -F '\t' -v key="$1" '$2 == key { last = $1 "\t" $3 } END { print last }')
    owners_tuner=$(printf '%s\n' "$owners_tuned" | awk -F '\t' -v key="$1" '$2 == key { last = $1 "\t" $3 } END { print last }')
    owners_winner=$owners_last owned_if_ill=ill
    if [ -n "$owners_tuner" ] && tuned_wins "${owners_last%%"$owners_tab"*}"; then
        owners_winner=$owners_tuner
        # What is not a sysctl it sets after tmpfiles.d.
        [ "$kind" != sysctl ] || tuned_wins "$dropin_sysctl" || owned_if_ill=curable
    else
        owners_name=${owners_last%%"$owners_tab"*}
        owners_later=$(printf '%s\n%s\n' "${owners_name##*/}" "${dropin_sysctl##*/}" | LC_ALL=C sort | tail -n 1)
        if [ "$owners_name" != /etc/sysctl.conf ] && [ "$owners_later" = "${dropin_sysctl##*/}" ]; then owned_if_ill=curable; fi
    fi
    [ -n "$owners_winner" ] || return 0
    owners_target=$target
    owned_value=$(outcome_of "${owners_winner#*"$owners_tab"}")
    knob_wants "$owned_value"
    target=$owners_target
    if [ "$fits" = yes ]; then owned=well; else owned=$owned_if_ill; fi
    case $owned in
        well) owners_so='and has the last word' ;;
        curable) owners_so='which is not as wanted; a file of apply has the last word' ;;
        ill) owners_so='which is not as wanted, and has the last word at the next boot: change it there' ;;
    esac
    case $owned:$owners_winner in
        # systemd-sysctl reads it only through a link in sysctl.d.
        ill:/etc/sysctl.conf*) owners_so='which is not as wanted, and has the last word of "sysctl --system": change it there' ;;
    esac
    others=$({
        printf '%s\n' "$owners_sysctl" |
            awk -F '\t' -v key="$1" -v ours="$dropin_sysctl" '$2 == key && $1 != ours { print $1 "\t" $3 }'
        printf '%s\n' "$owners_tuner"
    } | while IFS="$owners_tab" read -r owners_file owners_value; do
        [ -n "$owners_file" ] || continue
        owners_say="but ${owners_winner%%"$owners_tab"*} has the last word"
        [ "$owners_file$owners_tab$owners_value" != "$owners_winner" ] || owners_say=$owners_so
        case $owners_value in
            '>'*) owners_value="${owners_value#?} where less is set" ;;
            '<'*) owners_value="${owners_value#?} where more is set" ;;
        esac
        printf 'note: %s is also set by %s, to %s, %s\n' "$(knob_key_shown)" "$owners_file" "$owners_value" "$owners_say"
    done)
}

# What else manages such settings on this machine, without a file that could be read.
note_of_managers() {
    if [ -f "$ROOT/var/lib/kubelet/config.yaml" ] || [ -f "$ROOT/etc/kubernetes/kubelet.conf" ]; then
        printf 'note: a Kubernetes node: %s, and %s\n' \
            'kube-proxy sets net.netfilter.nf_conntrack_max itself (conntrack.maxPerCore, conntrack.min)' \
            'a pod has net.* of its own (securityContext.sysctls)'
    fi
}
