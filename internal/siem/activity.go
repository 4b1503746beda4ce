package siem

import (
	"net/http"
	"strings"
	"unicode"

	"github.com/c1proxy/c1proxy/internal/route"
)

// An activity is OCSF's activity_id of class 6003, API Activity.
type activity int

// The activities.
const (
	activityCreate activity = 1
	activityRead   activity = 2
	activityUpdate activity = 3
	activityDelete activity = 4
	// activityOther has the method's own name.
	activityOther activity = 99
)

var activityNames = map[activity]string{activityCreate: "Create", activityRead: "Read", activityUpdate: "Update", activityDelete: "Delete"}

// activityWords are what a method with side effects does, by the first word of
// its name. What is not here, such as ConfirmSyncValid, is activityOther: it is
// better named than guessed at.
var activityWords = map[string]activity{
	"Add": activityCreate, "Assign": activityCreate, "Create": activityCreate, "Generate": activityCreate,
	"Import": activityCreate, "Mint": activityCreate, "Register": activityCreate,
	"Reassign": activityUpdate, "Reorder": activityUpdate, "Rotate": activityUpdate, "Set": activityUpdate, "Update": activityUpdate,
	"Delete": activityDelete, "Remove": activityDelete, "Revoke": activityDelete, "Unassign": activityDelete,
}

// activityOf says what a route's method does: a read reads, whatever its HTTP
// method is; then its name decides, and a DELETE of any name deletes.
func activityOf(r *route.Route) activity {
	if r.ReadOnly {
		return activityRead
	}
	if r.Verb == http.MethodDelete {
		return activityDelete
	}
	name := string(r.Descriptor.Name())
	word := firstWord(name)
	if word == "Bulk" || word == "Batch" { // what is done, many times
		word = firstWord(name[len(word):])
	}
	if a, ok := activityWords[word]; ok {
		return a
	}
	return activityOther
}

// firstWord is a CamelCase name up to its second capital.
func firstWord(name string) string {
	if name == "" {
		return ""
	}
	if end := strings.IndexFunc(name[1:], unicode.IsUpper); end >= 0 {
		return name[:end+1]
	}
	return name
}
