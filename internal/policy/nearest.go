package policy

import "strings"

// maxEndings is up to how many candidates an ending is worth listing.
const maxEndings = 3

// endings are the candidates that end in word, after a "/" or a ".": word is a
// bare method name, or Service/Method without its package. They are none if
// they are more than a few.
func endings(word string, candidates []string) []string {
	if word == "" {
		return nil
	}
	var found []string
	for _, candidate := range candidates {
		if strings.HasSuffix(candidate, "/"+word) || strings.HasSuffix(candidate, "."+word) {
			found = append(found, candidate)
		}
	}
	if len(found) > maxEndings {
		return nil
	}
	return found
}

// nearest returns the candidate with the fewest edits from word, or "" if none
// shares even two thirds of its letters.
func nearest(word string, candidates []string) string {
	best, fewest := "", len(word)/3+1
	for _, candidate := range candidates {
		if n := edits(word, candidate, fewest); n < fewest {
			best, fewest = candidate, n
		}
	}
	return best
}

// edits is the Levenshtein distance in bytes, or most if it is not less.
func edits(a, b string, most int) int {
	if max(len(a)-len(b), len(b)-len(a)) >= most {
		return most // every letter more or less is an edit
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		least := row[0]
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j+1]+1, row[j]+1)
			least = min(least, row[j+1])
		}
		if least >= most {
			return most // it only grows
		}
	}
	return min(row[len(b)], most)
}
