package config

import (
	"fmt"
	"strings"
)

// maxCandidates limits the work of a suggestion: with more names in a file, comparing each wrong one with all of them
// would take too long.
const maxCandidates = 500

// didYouMean returns the hint that names the candidate nearest to word, or "".
func didYouMean(word string, candidates []string) string {
	if best := nearest(word, candidates); best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	return ""
}

// Nearest returns the candidate that a misspelt word was probably meant to be, or "".
func Nearest(word string, candidates []string) string { return nearest(word, candidates) }

// Suggest adds to the error for a misspelt word a hint with the candidate that was probably meant.
func Suggest(err error, word string, candidates []string) error {
	if hint := didYouMean(strings.ToLower(word), candidates); hint != "" {
		return fmt.Errorf("%w\n    hint: %s", err, hint)
	}
	return err
}

// nearest returns the candidate that word was probably meant to be, or "".
func nearest(word string, candidates []string) string {
	if word == "" || len(word) > 64 || len(candidates) > maxCandidates {
		return ""
	}
	best, least := "", max(1, len(word)/3)+1
	for _, c := range candidates {
		if c == word || len(c) > 64 {
			continue
		}
		if d := distance(word, c); d < least {
			best, least = c, d
		}
	}
	return best
}

// distance counts the insertions, deletions, replacements and swaps of neighbours that turn a
// into b.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			replace := rows[i-1][j-1]
			if a[i-1] != b[j-1] {
				replace++
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, replace)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
