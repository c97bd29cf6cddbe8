# Completion of annulus for bash. In ~/.bashrc: eval "$(annulus completion bash)"
# Made from the table of commands by annulus itself.

# What the flag of a command takes, into kind.
_annulus_value() {
    kind=
    case "$1" in
@VALUES@
    esac
}

_annulus() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
    local command='' kind='' flags='' more='' word at place=0
    COMPREPLY=()
    # `--flag=value` are three words here.
    if [[ $cur == = ]]; then
        cur=
    elif [[ $prev == = ]]; then
        prev=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    for ((at = 1; at < COMP_CWORD; at++)); do
        case "$command ${COMP_WORDS[at]}" in
        @NAMES@) command=${command:+$command }${COMP_WORDS[at]} ;;
        *) break ;;
        esac
    done
    if [[ -z $command ]]; then
        mapfile -t COMPREPLY < <(compgen -W '@FIRSTS@ --help --version' -- "$cur")
        return
    fi
    [[ $prev == -* ]] && _annulus_value "$command $prev"
    if [[ -z $kind ]]; then
        # Which operand this is: words that are neither flags nor their values.
        for (( ; at < COMP_CWORD; at++)); do
            word=${COMP_WORDS[at]}
            if [[ $word == -?* ]]; then
                _annulus_value "$command $word"
                [[ -n $kind ]] && ((at++)) && [[ ${COMP_WORDS[at]} == = ]] && ((at++))
            else
                ((place++))
            fi
        done
        kind=
        case "$command" in
@CASES@
        esac
        [[ $cur == -* ]] && kind="words $flags"
    fi
    case "$kind" in
    file)
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        ;;
    folder)
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -d -- "$cur")
        ;;
    words*) mapfile -t COMPREPLY < <(compgen -W "${kind#words }" -- "$cur") ;;
    esac
    if [[ -n $more && $cur != -* ]]; then
        mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -W "$more" -- "$cur")
    fi
    # Nothing typed yet, and nothing else to say: what there is to choose from.
    if [[ -z $cur && -z $kind && -z $more ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$flags" -- "$cur")
    fi
}

complete -F _annulus annulus
