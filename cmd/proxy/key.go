package main

import (
	"encoding/json"
	"fmt"

	"github.com/c1proxy/c1proxy/internal/authn"
)

type keyCommand struct {
	New keyNewCommand `cmd:"" help:"Make an API key: it is shown once, and kept nowhere."`
}

type keyNewCommand struct {
	Team   string `required:"" placeholder:"TEAM" help:"The team that the caller belongs to."`
	Caller string `required:"" placeholder:"CALLER" help:"The caller that the key is for."`
	JSON   bool   `name:"json" help:"Print one line of JSON."`
}

// Run prints a new key and the lines for the configuration. The key is not
// stored: only its hash is needed from here on.
func (k keyNewCommand) Run(t *terminal) error {
	key := authn.NewKey()
	hash := authn.HashKey(key).String()
	if k.JSON {
		return json.NewEncoder(t.out).Encode(map[string]string{
			"api_key": key, "sha256": hash, "team": k.Team, "caller": k.Caller})
	}
	_, err := fmt.Fprintf(t.out, `The API key of %[1]s/%[2]s. It is shown this once; give it to the caller:

    %[3]s

Its hash, for the configuration. Two keys of one caller may be live at once:

    teams:
      - name: %[1]s
        callers:
          - name: %[2]s
            api_keys: [{sha256: "%[4]s"}]
`, k.Team, k.Caller, key, hash)
	return err
}
