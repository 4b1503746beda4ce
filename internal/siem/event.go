package siem

import (
	"encoding/json"
	"net/netip"

	"connectrpc.com/connect"
)

// A class is an event class of OCSF. The hundreds of its uid are its category.
type class struct {
	uid            int
	name, category string
}

// The classes that are used.
var (
	classAPI       = class{6003, "API Activity", "Application Activity"}
	classLifecycle = class{6002, "Application Lifecycle", "Application Activity"}
	classError     = class{6008, "Application Error", "Application Activity"}
	classFinding   = class{2004, "Detection Finding", "Findings"}
)

// An event is an OCSF event, with the attributes that are used. What is empty is
// left out.
type event struct {
	ActivityID   int      `json:"activity_id"`
	ActivityName string   `json:"activity_name"`
	CategoryUID  int      `json:"category_uid"`
	CategoryName string   `json:"category_name"`
	ClassUID     int      `json:"class_uid"`
	ClassName    string   `json:"class_name"`
	TypeUID      int      `json:"type_uid"`
	TypeName     string   `json:"type_name"`
	Time         int64    `json:"time"` // in milliseconds
	Duration     int64    `json:"duration,omitempty"`
	SeverityID   severity `json:"severity_id"`
	Severity     string   `json:"severity"`
	StatusID     *int     `json:"status_id,omitempty"`
	Status       string   `json:"status,omitempty"`
	StatusCode   string   `json:"status_code,omitempty"`
	StatusDetail string   `json:"status_detail,omitempty"`
	Message      string   `json:"message"`
	Metadata     metadata `json:"metadata"`

	// Of a call.
	Actor       *actor     `json:"actor,omitempty"`
	API         *api       `json:"api,omitempty"`
	SrcEndpoint *endpoint  `json:"src_endpoint,omitempty"`
	Resources   []resource `json:"resources,omitempty"`

	// Of the log.
	Application *application `json:"application,omitempty"`
	Finding     *finding     `json:"finding_info,omitempty"`
	IsAlert     bool         `json:"is_alert,omitempty"`

	Unmapped map[string]json.RawMessage `json:"unmapped,omitempty"`
}

// classify says what kind of event it is.
func (e *event) classify(c class, activity int, name string) {
	e.ClassUID, e.ClassName = c.uid, c.name
	e.CategoryUID, e.CategoryName = c.uid/1000, c.category
	e.ActivityID, e.ActivityName = activity, name
	e.TypeUID = c.uid*100 + activity
	e.TypeName = c.name + ": " + name
	if activity == 99 {
		e.TypeName = c.name + ": Other"
	}
}

// The objects of an event, by their names in OCSF.
type (
	metadata struct {
		Version        string      `json:"version"`
		Product        ocsfProduct `json:"product"`
		UID            string      `json:"uid"`
		Sequence       uint64      `json:"sequence"`
		EventCode      string      `json:"event_code"`
		LogName        string      `json:"log_name,omitempty"`
		OriginalTime   string      `json:"original_time"`
		CorrelationUID string      `json:"correlation_uid,omitempty"`
		TenantUID      string      `json:"tenant_uid,omitempty"`
		IsTruncated    bool        `json:"is_truncated,omitempty"`
	}
	ocsfProduct struct {
		Name       string `json:"name"`
		VendorName string `json:"vendor_name"`
		Version    string `json:"version,omitempty"`
	}
	actor struct {
		User           user            `json:"user"`
		Authorizations []authorization `json:"authorizations,omitempty"`
	}
	user struct {
		Name          string  `json:"name,omitempty"`
		UID           string  `json:"uid,omitempty"`
		TypeID        int     `json:"type_id"`
		Type          string  `json:"type"`
		Groups        []group `json:"groups,omitempty"`
		CredentialUID string  `json:"credential_uid,omitempty"`
	}
	group struct {
		Name string `json:"name"`
		Type string `json:"type"`
	}
	authorization struct {
		Decision string `json:"decision,omitempty"`
		Policy   policy `json:"policy"`
	}
	policy struct {
		Name string `json:"name,omitempty"`
		UID  string `json:"uid,omitempty"`
	}
	api struct {
		Operation string       `json:"operation"`
		Service   *named       `json:"service,omitempty"`
		Request   *apiRequest  `json:"request"`
		Response  *apiResponse `json:"response,omitempty"`
	}
	named struct {
		Name string `json:"name"`
	}
	apiRequest struct {
		UID string `json:"uid"`
	}
	apiResponse struct {
		Code  *int   `json:"code,omitempty"` // the RPC code, 0 to 16
		Error string `json:"error,omitempty"`
	}
	endpoint struct {
		IP            string `json:"ip,omitempty"`
		Port          uint16 `json:"port,omitempty"`
		InterfaceName string `json:"interface_name,omitempty"` // an IPv6 zone
		Name          string `json:"name,omitempty"`
	}
	resource struct {
		UID  string `json:"uid"`
		Type string `json:"type"`
	}
	application struct {
		Name    string `json:"name"`
		UID     string `json:"uid,omitempty"`
		Version string `json:"version,omitempty"`
	}
	finding struct {
		UID         string `json:"uid"`
		Title       string `json:"title"`
		CreatedTime int64  `json:"created_time"`
	}
)

// label is the shortest text that says who it is.
func (u user) label() string {
	if u.UID != "" {
		return u.UID
	}
	return u.Name
}

// endpointOf reads a peer, an address with or without a port. What is none becomes
// a name.
func endpointOf(peer string) *endpoint {
	if address, err := netip.ParseAddr(peer); err == nil { // of one that a proxy has named
		return &endpoint{IP: address.WithZone("").String(), InterfaceName: address.Zone()}
	}
	at, err := netip.ParseAddrPort(peer)
	switch {
	case peer == "":
		return &endpoint{Name: "unknown"}
	case err != nil:
		return &endpoint{Name: peer}
	}
	return &endpoint{IP: at.Addr().WithZone("").String(), Port: at.Port(), InterfaceName: at.Addr().Zone()}
}

// codeNumbers are the RPC codes by their names.
var codeNumbers = func() map[string]int {
	numbers := map[string]int{"ok": 0}
	for code := connect.CodeCanceled; code <= connect.CodeUnauthenticated; code++ {
		numbers[code.String()] = int(code)
	}
	return numbers
}()
