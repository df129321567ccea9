package screen

import "strings"

// digitList is what a person says who reads out a code.
func digitList() []string {
	return strings.Fields("zero oh one two three four five six seven eight nine double triple")
}
