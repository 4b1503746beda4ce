package sandbox_test

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/c1proxy/c1proxy/internal/sandbox"
)

// A confirm whose connection is reset after C1 has acted: the client sees
// nothing, and the sandbox knows better. Sent once more, it is too late.
func Example() {
	c1, err := sandbox.Start("127.0.0.1:0", sandbox.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c1.Close()
	facts := c1.Facts()
	c1.Inject(sandbox.Rule{On: sandbox.ConfirmSyncValid, Times: 1, Fault: sandbox.Reset().AfterActing()})

	for range 2 {
		request, err := http.NewRequest("POST", facts.URL+"/api/v1/apps/"+facts.AppID+"/connectors/"+facts.ConnectorID+
			"/confirm_sync_valid/"+facts.SyncLifecycleID, strings.NewReader("{}"))
		if err != nil {
			fmt.Println(err)
			return
		}
		request.Header.Set("Authorization", "Bearer "+facts.StaticToken)
		request.Header.Set("Content-Type", "application/json")
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			fmt.Println("the client: no answer")
			continue
		}
		response.Body.Close()
		fmt.Println("the client:", response.Status)
	}
	for _, seen := range c1.Requests() {
		fmt.Printf("the record: fault %q, status %d, acted %v\n", seen.Fault, seen.Status, seen.Acted)
	}
	fmt.Println("acts:", c1.Acts(sandbox.ConfirmSyncValid))
	// Output:
	// the client: no answer
	// the client: 400 Bad Request
	// the record: fault "reset, after acting", status 0, acted true
	// the record: fault "", status 400, acted false
	// acts: 1
}
