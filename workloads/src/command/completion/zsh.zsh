#compdef annulus
# Completion of annulus for zsh: annulus completion zsh >~/.zfunc/_annulus, with fpath+=~/.zfunc before compinit.
# Made from the table of commands by annulus itself.

_annulus() {
    local -a commands
    local command=$words[2]
    if ((CURRENT == 2)); then
        commands=(
@FIRSTS@
        )
        _describe command commands
        return
    fi
    shift words
    ((CURRENT--))
    if ((CURRENT > 2)); then
        case "$command $words[2]" in
        @SECONDS@)
            command="$command $words[2]"
            shift words
            ((CURRENT--))
            ;;
        esac
    fi
    case "$command" in
@CASES@
    esac
}

if [[ $funcstack[1] == _annulus ]]; then
    _annulus "$@"
else
    compdef _annulus annulus
fi
