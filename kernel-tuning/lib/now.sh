# shellcheck shell=sh
# What the machine has now: its size, and the value of a knob.
#
# Never does: changing anything. All paths are below $ROOT.

# Sets what rules compute with: N is there already; CORES, PAGES (of memory) and NOFILE, the descriptors that one process needs.
machine() {
    CORES=$(getconf _NPROCESSORS_ONLN 2>/dev/null) || CORES=1
    page=$(getconf PAGESIZE 2>/dev/null) || page=4096
    memory_kib=$(awk '$1 == "MemTotal:" { print $2 }' "$ROOT/proc/meminfo" 2>/dev/null)
    is_number "${memory_kib:-}" || memory_kib=$(awk '$1 == "MemTotal:" { print $2 }' /proc/meminfo 2>/dev/null)
    is_number "${memory_kib:-}" || memory_kib=8388608
    # shellcheck disable=SC2034 # rules of knobs use it
    PAGES=$((memory_kib * 1024 / page))
    # The gateway keeps 15 % of a ring's table free, and gives a shard an eighth more than its even share.
    NOFILE=$((N * 5 / 4 / CORES + 4096))
    [ "$NOFILE" -ge 524288 ] || NOFILE=524288
    unit_limit=$(unit_value LimitNOFILE)
    if is_number "$unit_limit" && [ "$(bounded "$unit_limit")" -gt "$NOFILE" ]; then NOFILE=$(bounded "$unit_limit"); fi
    disk_of_data
    # A tree without /proc/sys is an image, and so is one that shows the kernel which runs here, as a chroot does: nothing of it
    # runs, so there are only files to write.
    image=no
    if [ -n "$ROOT" ] && { [ ! -d "$ROOT/proc/sys" ] || same_kernel; }; then image=yes; fi
}

same_kernel() {
    kernel_boot=$(cat "$ROOT/proc/sys/kernel/random/boot_id" 2>/dev/null)
    [ -n "$kernel_boot" ] && [ "$kernel_boot" = "$(cat /proc/sys/kernel/random/boot_id 2>/dev/null)" ]
}

# The whole disk below the data, as /sys/block calls it; empty where the kernel does not tell.
disk_of_data() {
    [ -z "$disk" ] && [ -z "$ROOT" ] || return 0
    disk_at=$data
    until [ -d "$disk_at" ] || [ "$disk_at" = / ]; do disk_at=$(dirname "$disk_at"); done
    disk_at=$(cd "$disk_at" && pwd -P) || return 0
    disk_number=$(awk -v path="$disk_at" '
        { at = $5; holds = at == "/" || path == at || index(path, at "/") == 1 }
        holds && length(at) >= best { best = length(at); number = $3 }
        END { print number }' /proc/self/mountinfo 2>/dev/null)
    disk_at=$(readlink -f "/sys/dev/block/$disk_number" 2>/dev/null) || return 0
    [ -d "$disk_at/queue" ] || disk_at=$(dirname "$disk_at")
    [ ! -d "$disk_at/queue" ] || disk=$(basename "$disk_at")
}

has_systemd() { if [ -n "$ROOT" ]; then [ -d "$ROOT/etc/systemd" ]; else [ -d /run/systemd/system ]; fi; }

# systemd_files FILE FOLDER...: below systemd/, the file and what is dropped into the folders, in the order in which they count.
systemd_files() {
    for systemd_dir in etc run usr/local/lib usr/lib lib; do
        [ -f "$ROOT/$systemd_dir/systemd/$1" ] || continue
        printf '%s\n' "$ROOT/$systemd_dir/systemd/$1"
        break
    done
    shift
    for systemd_folder in "$@"; do
        for systemd_dir in etc run usr/local/lib usr/lib lib; do
            for systemd_dropin in "$ROOT/$systemd_dir/systemd/$systemd_folder"/*.conf; do
                [ ! -e "$systemd_dropin" ] || printf '%s\t%s\n' "${systemd_dropin##*/}" "$systemd_dropin"
            done
        done
    done | LC_ALL=C sort -s -u -t "$(printf '\t')" -k 1,1 | cut -f 2
}

# last_said SETTING < FILES: FILE<tab>VALUE of the last that says it. Of a pair of limits the soft one counts, but for open files:
# the gateway raises those to the hard one.
last_said() {
    while IFS= read -r said_file; do
        awk -F= -v want="$1" -v file="${said_file#"$ROOT"}" '
            { name = $1; gsub(/[ \t]/, "", name) }
            name == want {
                value = $2; gsub(/[ \t]/, "", value); sub(want ~ /NOFILE$/ ? ".*:" : ":.*", "", value)
                print file "\t" value }
        ' "$said_file" 2>/dev/null
    done | tail -n 1
}

# unit_said SETTING: FILE<tab>VALUE.
unit_said() { systemd_files system/ringpost.service system/ringpost.service.d system/service.d | last_said "$1"; }

unit_value() { unit_said "$1" | cut -f 2; }

# unit_number SETTING VALUE: comparable; a niceness of -10 is 30 of RLIMIT_NICE.
unit_number() {
    case $1:$2 in
        *:infinity) printf 999999999999999999 ;;
        LimitNICE:[-+]*) is_number "${2#+}" && printf '%s' $((20 - ${2#+})) ;;
        *:*[KMGT]) unit_digits=${2%?}
            case $2 in *K) unit_shift=10 ;; *M) unit_shift=20 ;; *G) unit_shift=30 ;; *) unit_shift=40 ;; esac
            is_number "$unit_digits" && printf '%s' $((unit_digits << unit_shift)) ;;
        *) printf '%s' "$2" ;;
    esac
}

# What systemd gives a service that says nothing (systemd.exec(5), systemd-system.conf(5)).
unit_default() {
    default_value=$(systemd_files system.conf system.conf.d | last_said "Default$1" | cut -f 2)
    case $default_value:$1 in
        ?*:*) printf '%s' "$default_value" ;;
        *:LimitNOFILE) printf 524288 ;;
        *:LimitNICE) printf 0 ;;
        *:LimitMEMLOCK) printf 8388608 ;;
    esac
}

# Where the loaded knob is.
knob_path() {
    case $kind in
        sysctl) printf '%s/proc/sys/%s' "$ROOT" "$(printf '%s' "$key" | tr . /)" ;;
        sysfs) printf '%s/sys/%s' "$ROOT" "$key" | sed "s|@DISK@|$disk|" ;;
    esac
}

# The key as an operator writes it.
knob_key_shown() {
    case $kind in
        sysfs) printf '/sys/%s' "$key" | sed "s|@DISK@|${disk:-DISK}|" ;;
        unit) printf 'ringpost.service %s' "$key" ;;
        *) printf '%s' "$key" ;;
    esac
}

# file_value PATH: sets value, its words with one space between them. Status 1: it cannot be read.
file_value() {
    value=$(cat "$1" 2>/dev/null) || return 1
    # shellcheck disable=SC2086 # words
    value=$(set -f; printf '%s ' $value)
    value=${value% }
}

# Looks at the loaded knob. Sets state (ok, low, missing, cannot, 'not here'), now, target, and why, where there is more to say.
assess() {
    state=ok now='' target='' why=''
    case $kind in
        sysctl | sysfs) assess_file ;;
        unit) assess_unit ;;
        look) "look_$key" ;;
    esac
}

assess_file() {
    case $key in *@DISK@*)
        [ -n "$disk" ] || { state='not here' why="the disk of $data is not told by the kernel: name it with --disk"; return; } ;;
    esac
    assess_path=$(knob_path)
    if [ "$image" = yes ]; then
        assess_image
        return
    fi
    if [ ! -e "$assess_path" ]; then
        knob_wants ''
        state='not here'
        why=$(knob_field "$here/knobs/$knob" absent)
        return
    fi
    if ! file_value "$assess_path"; then
        state=cannot why="cannot be read: $(who_can "$assess_path")"
        return
    fi
    now=$value
    [ -n "$now" ] || { state=cannot why="$(knob_key_shown) is empty: that is no value of this kernel"; return; }
    knob_wants "$now"
    if [ "$fits" = garbled ]; then
        state=cannot target='' why="holds '$now', which is no number: left alone"
    elif [ "$fits" = no ]; then
        state=low
        if [ -n "$unless" ] && "unless_$unless"; then state=ok target=$now; return; fi
        [ -w "$assess_path" ] || { state=cannot why="cannot be changed from here: $(who_can "$assess_path")"; }
    fi
}

# What files of an image set is known. What its kernel gives by itself is not, and grows with the memory: a number of ours could be
# less than that.
assess_image() {
    now=$(printf '%s\n' "$owners_sysctl" | awk -F '\t' -v key="$key" '$2 == key { last = $3 } END { print last }')
    knob_wants "$now"
    if [ "$fits" = garbled ]; then
        state=cannot target='' why="a file sets it to '$now', which is no number: left alone"
    elif [ "$fits" = yes ] && [ -n "$now" ]; then
        state=ok
    elif [ -z "$now" ] && [ "$wants_verb" = at-least ]; then
        state='not here' why='an image: its kernel chooses the number when it boots, and may choose a higher one: check there'
    else
        state=low why='an image: it is set at its next boot'
    fi
}

# who_can PATH: who can change what this process cannot.
who_can() {
    if [ "$(id -u)" != 0 ]; then
        printf 'root can'
    elif awk -v path="$1" '
        { at = $5; if (index(path, at "/") == 1 && length(at) >= best) { best = length(at); options = $6 } }
        END { exit !(options ~ /^ro(,|$)/) }' /proc/self/mountinfo 2>/dev/null; then
        printf 'it is mounted read-only, as in a container; the host can'
    else
        printf 'the kernel refuses it here; the host can, outside of this container or network namespace'
    fi
}

assess_unit() {
    knob_wants ''
    if ! has_systemd; then
        state='not here' why="no systemd: the limit is that of the shell or container that starts ringpost"
        unit_running=$(running_limit "$key")
        [ -z "$unit_running" ] || why="$why; of the ringpost that runs it is $unit_running"
        return
    fi
    now=$(unit_value "$key")
    if [ -z "$now" ]; then
        now=$(unit_default "$key")
        assess_state=missing
    else
        assess_state=low
    fi
    unit_has=$(unit_number "$key" "$now")
    is_number "$unit_has" || { state=cannot target='' why="the unit says $key=$now, which is no number: left alone"; return; }
    knob_wants "$unit_has"
    if [ "$fits" = yes ]; then
        target=$now
    else
        state=$assess_state
        unit_by=$(unit_said "$key" | cut -f 1)
        if unit_overrules "$unit_by"; then
            state=cannot why="$unit_by has the last word over a file of apply, and says $now: change it there"
        elif [ ! -w "$ROOT/etc/systemd" ]; then
            state=cannot why="cannot be changed from here: $(who_can "$ROOT/etc/systemd/system")"
        fi
    fi
}

# unit_overrules FILE: whether what it says counts more than our drop-in, as that of `systemctl edit` (override.conf) does.
unit_overrules() {
    case $1 in */*.d/*) ;; *) return 1 ;; esac
    [ "${1##*/}" != "${dropin_unit##*/}" ] || return 1
    [ "$(printf '%s\n%s\n' "${1##*/}" "${dropin_unit##*/}" | LC_ALL=C sort | tail -n 1)" = "${1##*/}" ]
}

# running_limit SETTING: of the first process named ringpost.
running_limit() {
    case $1 in
        LimitNOFILE) limit_line='Max open files' ;;
        LimitNICE) limit_line='Max nice priority' ;;
        *) limit_line='Max locked memory' ;;
    esac
    for limit_comm in "$ROOT"/proc/[0-9]*/comm; do
        [ "$(cat "$limit_comm" 2>/dev/null)" = ringpost ] || continue
        awk -v line="$limit_line" 'index($0, line) == 1 { sub(line, ""); print $2; exit }' "${limit_comm%comm}limits" 2>/dev/null
        return
    done
}
