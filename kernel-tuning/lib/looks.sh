# shellcheck shell=sh
# What is looked at and never set: it is decided elsewhere (an image, a unit, a pod).
#
# Each look_NAME sets state, now, target and why, as assess does.

# Linux 6.13: what `ringpost serve` asks of io_uring at its start.
look_kernel() {
    now=''
    [ "$image" = yes ] || now=$(cat "$ROOT/proc/sys/kernel/osrelease" 2>/dev/null)
    target=6.13
    [ -n "$now" ] || { state='not here' why='no kernel runs in this tree'; return; }
    kernel_major=${now%%.*} kernel_minor=${now#*.}
    kernel_minor=${kernel_minor%%[!0-9]*}
    if ! is_number "$kernel_major" || ! is_number "${kernel_minor:-x}"; then
        state=cannot why="$now is no version that can be read"
    elif [ $((kernel_major * 1000 + kernel_minor)) -lt 6013 ]; then
        state=low why='another kernel is needed: ringpost serve names the operation that is missing'
    fi
}

# What the sessions take in user space and in the kernel, against the least of the memory and the limits of its control groups.
look_memory() {
    target=$((N * 6400 / 1048576 + 420))
    [ "$image" = no ] || { state='not here' target="$target MiB" why='an image: the machine that boots it has its own'; return; }
    now=$((memory_kib / 1024)) memory_of='the machine'
    memory_unit=system.slice/ringpost.service
    for memory_file in $memory_unit/memory.max $memory_unit/memory.high memory.max memory.high memory/memory.limit_in_bytes; do
        memory_limit=$(cat "$ROOT/sys/fs/cgroup/$memory_file" 2>/dev/null)
        is_number "${memory_limit:-max}" || continue
        [ "$(bounded "$memory_limit")" -lt $((now * 1048576)) ] || continue
        now=$((memory_limit / 1048576)) memory_of="/sys/fs/cgroup/$memory_file"
    done
    if [ "$now" -lt "$target" ]; then
        state=low why="$memory_of has too little for $N sessions: a larger machine or limit (MemoryMax=, resources.limits.memory)"
        why="$why, or fewer sessions (max_sessions)"
    fi
    now="$now MiB" target="$target MiB"
}

# kernel.io_uring_disabled = 1 keeps io_uring for one group: enough, if ringpost is in it.
unless_io_uring_group() {
    [ "$now" = 1 ] && file_value "$ROOT/proc/sys/kernel/io_uring_group" && is_number "$value" && [ "$value" -ge 0 ] || return 1
    why="only for members of group $value: ringpost's user must be one (SupplementaryGroups= in its unit)"
}

# The listen queues of gateways that run: each has the size that was allowed when it began to listen. The admin port has a short one
# of its own, so of each process the longest counts.
note_of_listeners() {
    [ -z "$ROOT" ] && command -v ss >/dev/null || return 0
    ss -Hltnp 2>/dev/null | awk '
        match($0, /"ringpost",pid=[0-9]+/) {
            pid = substr($0, RSTART + 15, RLENGTH - 15)
            if ($3 > most[pid]) { most[pid] = $3; at[pid] = $4 }
        }
        END { for (pid in most) print at[pid], most[pid] }' | while read -r listener_at listener_has; do
        if [ "$listener_has" -lt 4096 ]; then
            listener_so=', not 4096: start it again once net.core.somaxconn is set'
        else
            listener_so=''
        fi
        printf 'note: the ringpost at %s listens with %s (ss -ltn, Send-Q)%s\n' "$listener_at" "$listener_has" "$listener_so"
    done
}
