# shellcheck shell=sh
# The record of what was there before: one line for each setting, KIND<tab>KEY<tab>OLD<tab>SET, where SET lists every value that
# apply has set, the newest last, with | between them.
#
# Guarantees: it is on disk before anything is changed; a second apply adds to it and never replaces an OLD; it is replaced by
# renaming, so it is whole at any moment. Never does: setting anything.

backup_dir=/var/lib/ringpost-tuning
backup=$backup_dir/backup

# One run that writes at a time: of two, each would replace a record that it has not read.
lock() {
    { [ -r "$ROOT/var/lib" ] && command -v flock >/dev/null; } || return 0
    exec 9<"$ROOT/var/lib"
    flock -n 9 || { printf 'tune: another one is at work here: run it again when that is done\n' >&2; exit 1; }
}

# on_disk PATH...: the bytes, not only the names, survive a power cut.
on_disk() { sync "$@" 2>/dev/null || sync; }

# put PATH < TEXT: by renaming, and on disk. Status 1 with a sentence.
put() {
    put_dir=$(dirname "$1")
    { mkdir -p "$put_dir" && cat >"$1.new" && on_disk "$1.new" && mv -f "$1.new" "$1" && on_disk "$put_dir"; } 2>/dev/null && return
    rm -f "$1.new" 2>/dev/null
    if [ "$(id -u)" = 0 ]; then put_why='the file system refuses it'; else put_why='root can'; fi
    printf 'tune: cannot write %s: %s\n' "${1#"$ROOT"}" "$put_why" >&2
    return 1
}

# backup_add LINES: new lines are added, of known ones the newest SET is noted.
backup_add() {
    {
        cat "$ROOT$backup" 2>/dev/null
        printf '%s\n' "$1"
    } | awk -F '\t' -v OFS='\t' '
        NF < 4 { next }
        { id = $1 OFS $2 }
        !(id in old) { order[++n] = id; old[id] = $3; set[id] = $4; next }
        { list = "|" set[id] "|"; at = index(list, "|" $4 "|")
          # One that is there already becomes the newest.
          if (at) list = substr(list, 1, at) substr(list, at + length($4) + 2)
          gsub(/^[|]+|[|]+$/, "", list)
          set[id] = list (list == "" ? "" : "|") $4 }
        END { for (i = 1; i <= n; i++) print order[i], old[order[i]], set[order[i]] }' | put "$ROOT$backup"
}

# backup_drop KIND KEY VALUE: as if it had never been set to that.
backup_drop() {
    awk -F '\t' -v OFS='\t' -v kind="$1" -v key="$2" -v value="$3" '
        $1 == kind && $2 == key {
            list = "|" $4 "|"; at = index(list, "|" value "|")
            if (at) list = substr(list, 1, at) substr(list, at + length(value) + 2)
            gsub(/^[|]+|[|]+$/, "", list)
            if (list == "") next
            $4 = list }
        { print }' "$ROOT$backup" | put "$ROOT$backup"
}

# backup_newest KIND: KEY<tab>VALUE, the newest that was set.
backup_newest() {
    awk -F '\t' -v kind="$1" '$1 == kind { n = split($4, set, "|"); print $2 "\t" set[n] }' "$ROOT$backup" 2>/dev/null
}
