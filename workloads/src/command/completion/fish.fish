# Completion of annulus for fish: annulus completion fish >~/.config/fish/completions/annulus.fish
# Made from the table of commands by annulus itself.

# Whether the line so far has this command, and, where that is said, so many words behind it that are no flags: "0", or "1-" for
# at least one. (A flag's value counts as such a word; files are offered after it all the same.)
function __annulus_at
    set -l words (commandline -opc)
    set -e words[1]
    set -l command
    set -l place 0
    for word in $words
        if contains -- "$command $word" @NAMES@; and test $place -eq 0
            set command (string trim -- "$command $word")
        else if not string match -q -- '-*' $word
            set place (math $place + 1)
        end
    end
    test "$command" = "$argv[1]"; or return 1
    set -q argv[2]; or return 0
    if string match -q -- '*-' $argv[2]
        test $place -ge (string trim -r -c - -- $argv[2])
    else
        test $place -eq $argv[2]
    end
end

complete -c annulus -f
