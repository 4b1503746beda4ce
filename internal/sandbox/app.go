package sandbox

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// An app is one of the world's, and guarded by its lock.
type app struct {
	id         string
	view       object       // c1.api.app.v1.App
	connectors []*connector // by id
}

// fixedOfApp are the fields of an app that C1 sets.
var fixedOfApp = []protoreflect.Name{"id", "app_account_id", "app_account_name", "created_at", "deleted_at", "field_mask",
	"is_directory", "logo_uri", "parent_app_id", "updated_at", "user_count"}

// addApp adds an app, in the order of ids. The lock must be held.
func (w *world) addApp(id, name, description string) *app {
	a := &app{id: id, view: w.app0.clone()}
	a.view.set("id", id)
	a.view.set("display_name", name)
	a.view.set("description", description)
	at, _ := slices.BinarySearchFunc(w.apps, id, appHasID)
	w.apps = slices.Insert(w.apps, at, a)
	return a
}

func appHasID(a *app, id string) int { return strings.Compare(a.id, id) }

// app finds an app, or refuses with NOT_FOUND. The lock must be held.
func (w *world) app(id string) (*app, error) {
	at, ok := slices.BinarySearchFunc(w.apps, id, appHasID)
	if !ok {
		return nil, refused(code.Code_NOT_FOUND, "app %q not found", id)
	}
	return w.apps[at], nil
}

func (w *world) listApps(q, p object) error {
	return page(p, q, "apps", w.apps, func(a *app) object { return a.view })
}

// searchApps finds text in the names of apps, in any case of letters, and
// knows the ids that are wanted or not. What else C1 looks at is not published.
func (w *world) searchApps(q, p object) error {
	query, display := strings.ToLower(q.text("query")), strings.ToLower(q.text("display_name"))
	only, but := q.texts("app_ids"), q.texts("exclude_app_ids")
	found := slices.DeleteFunc(slices.Clone(w.apps), func(a *app) bool {
		name := strings.ToLower(a.view.text("display_name"))
		return !strings.Contains(name, query) || !strings.Contains(name, display) || q.bool("only_directories") && !a.view.bool("is_directory") ||
			len(only) > 0 && !slices.Contains(only, a.id) || slices.Contains(but, a.id)
	})
	return page(p, q, "apps "+query, found, func(a *app) object { return a.view })
}

func (w *world) getApp(q, p object) error {
	a, err := w.app(q.text("id"))
	if err != nil {
		return err
	}
	p.set("app", a.view)
	return nil
}

// createApp adds an app. Two may have the same name: that C1 forbids it is not
// published.
func (w *world) createApp(q, p object) error {
	if q.text("display_name") == "" {
		return refused(code.Code_INVALID_ARGUMENT, "display_name is missing")
	}
	id, err := w.newID("2ZqMadeApp0sandbox")
	if err != nil {
		return err
	}
	a := w.addApp(id, "", "")
	a.view.take(q)
	a.view.set("is_manually_managed", true)
	a.view.set("created_at", w.now())
	a.view.set("updated_at", w.now())
	p.set("app", a.view)
	return nil
}

func (w *world) updateApp(q, p object) error {
	a, err := w.app(q.text("id"))
	if err != nil {
		return err
	}
	if !q.has("app") {
		return refused(code.Code_INVALID_ARGUMENT, "app is missing")
	}
	if err := a.view.update(q.within("app"), q.within("update_mask"), fixedOfApp); err != nil {
		return err
	}
	a.view.set("updated_at", w.now())
	p.set("app", a.view)
	return nil
}

// deleteApp takes away an app with its connectors.
func (w *world) deleteApp(q, _ object) error {
	a, err := w.app(q.text("id"))
	if err != nil {
		return err
	}
	w.apps = slices.DeleteFunc(w.apps, func(other *app) bool { return other == a })
	return nil
}

// newID makes an id for what a caller creates. RESOURCE_EXHAUSTED says that
// there is enough.
func (w *world) newID(prefix string) (string, error) {
	if w.made++; w.made > maxMade {
		return "", refused(code.Code_RESOURCE_EXHAUSTED, "the sandbox makes no more than %d apps and connectors", maxMade)
	}
	return fmt.Sprintf("%s%0*d", prefix, len(AppID)-len(prefix), w.made), nil
}
