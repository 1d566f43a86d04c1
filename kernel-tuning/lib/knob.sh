# shellcheck shell=sh
# A knob: what its file says, and what its rule makes of a value.
#
# Guarantees: a rule never makes a value worse that is better already (at-least, at-most, widen). Never does: reading the machine.

# The names, in the order in which they are looked at.
knob_names() { (cd "$here/knobs" && printf '%s ' *); }

# knob_field FILE FIELD: its text on one line.
knob_field() {
    awk -v want="$2:" '
        /^[a-z]+:/ { on = ($1 == want); if (on) { sub(/^[a-z]+:[ \t]*/, ""); printf "%s", $0 }; next }
        on && /^[ \t]/ { sub(/^[ \t]+/, ""); printf " %s", $0 }
    ' "$1"
}

# knob_load NAME: sets knob, kind, key, rule, profiles, unless.
knob_load() {
    knob=$1
    kind=$(knob_field "$here/knobs/$1" key)
    key=${kind#* }
    kind=${kind%% *}
    rule=$(knob_field "$here/knobs/$1" rule)
    profiles=$(knob_field "$here/knobs/$1" profile)
    unless=$(knob_field "$here/knobs/$1" unless)
}

# Whether the loaded knob belongs to the profile.
knob_is_of() { case " $profiles " in *" $1 "* | ' both ') return 0 ;; *) return 1 ;; esac; }

# is_number WORD: also numbers that arithmetic cannot hold.
is_number() { case ${1#-} in '' | *[!0-9]*) return 1 ;; esac; }

# bounded NUMBER: what arithmetic can hold, for comparing.
bounded() { if [ "${#1}" -gt 18 ]; then printf 999999999999999999; else printf '%s' "$1"; fi; }

# knob_wants CURRENT: sets fits (yes, no, or garbled) and target, the value to set. An empty CURRENT: unknown, the rule's own value.
knob_wants() {
    wants_verb=${rule%% *} wants_rest=${rule#* } wants_or=''
    case $wants_rest in *' else '*) wants_or=${wants_rest#* else } wants_rest=${wants_rest%% else *} ;; esac
    target='' fits=yes wants_now=$1
    wants_at=0
    wants_ifs=$IFS
    IFS=';'
    # shellcheck disable=SC2086 # split at semicolons
    set -- $wants_rest
    IFS=$wants_ifs
    for wants_expression in "$@"; do
        wants_at=$((wants_at + 1))
        wants_value=0
        eval "wants_value=\$(( $wants_expression ))"
        wants_word=$(printf '%s\n' "$wants_now" | awk -v at="$wants_at" '{ print $at }')
        wants_new=$wants_value
        if [ -n "$wants_now" ]; then
            is_number "$wants_word" || { fits=garbled; return; }
            wants_have=$(bounded "$wants_word")
            case $wants_verb in
                at-least) wants_bad=$((wants_have < wants_value)) ;;
                at-most) wants_bad=$((wants_have > wants_value)) ;;
                is) wants_bad=$((wants_have != wants_value)) ;;
                widen) [ "$wants_at" = 1 ] && wants_bad=$((wants_have > wants_value)) || wants_bad=$((wants_have < wants_value)) ;;
            esac
            if [ "$wants_bad" = 1 ]; then fits=no; else wants_new=$wants_word; fi
        fi
        [ "$wants_new" != "$wants_value" ] || [ -z "$wants_or" ] || [ "$wants_verb" != at-most ] || wants_new=$wants_or
        target="$target${target:+ }$wants_new"
    done
}

# The rule in words, with the numbers of this machine.
knob_rule_in_words() {
    knob_wants ''
    case $wants_verb in
        at-least) printf 'at least %s' "$target" ;;
        at-most) printf 'at most %s' "$wants_value" ;;
        widen) printf '%s or wider' "$target" ;;
        *) printf '%s' "$target" ;;
    esac
}
