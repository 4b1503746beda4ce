package policy

// nearest returns the candidate with the fewest edits from word, compared
// without regard to what precedes the method when word has no package, or ""
// if none shares even two thirds of its letters.
func nearest(word string, candidates []string) string {
	best, fewest := "", len(word)/3+1
	for _, candidate := range candidates {
		if n := edits(word, candidate); n < fewest {
			best, fewest = candidate, n
		}
		// A bare method name, or Service/Method without its package.
		if len(candidate) > len(word) && fewest > 1 {
			tail := candidate[len(candidate)-len(word):]
			before := candidate[len(candidate)-len(word)-1]
			if tail == word && (before == '/' || before == '.') {
				best, fewest = candidate, 1
			}
		}
	}
	return best
}

// edits is the Levenshtein distance in bytes.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
