package audit

// A Finding is a kind of thing that can be wrong with a log.
type Finding string

// The findings. None of them is what a crash leaves behind: a crash leaves a
// log that is ahead of its newest head, or ends in half a line, and both are
// in order.
const (
	// FindingChanged: a record, or a line that was added, is not what was written.
	FindingChanged Finding = ""
	// FindingMissing: records are missing in the middle.
	FindingMissing Finding = "missing"
	// FindingCut: a signed head is ahead of its log.
	FindingCut Finding = "cut"
	// FindingHead: the newest head is gone, or is none of the log's key.
	FindingHead Finding = "head"
	// FindingRemoved: whole segments are gone, which retention did not remove.
	FindingRemoved Finding = "removed"
	// FindingHashes: the hashes that are kept of removed segments are wrong.
	FindingHashes Finding = "hashes"
)

// String is a word for each.
func (f Finding) String() string {
	if f == FindingChanged {
		return "changed"
	}
	return string(f)
}

// meanings say what each finding means, to someone who has not read this
// package.
var meanings = map[Finding]string{
	FindingChanged: "The bytes there are not those that were written: someone edited, inserted, swapped or duplicated records, or the disk " +
		"damaged them. Records before it that a signed head covers are as they were written.",
	FindingMissing: "Records are gone that others, which are there, come after. The gateway never takes out of the middle, " +
		"and a crash cannot: every record was on disk before the next one was begun.",
	FindingCut: "A head is ahead of its log. This is not what a crash leaves: a head is signed only when the records that it covers " +
		"are on disk, so a crash leaves a log that is ahead of its head. Either the end was cut off, or the directory was replaced " +
		"by an older copy (a restored backup or snapshot is one), or the disk lost what it had said was safe.",
	FindingHead: "Nothing vouches for the records: the gateway signs a head before its first call and replaces it as a whole, " +
		"so that a crash leaves the old one or the new one. It was removed, replaced or edited, or the key given is another log's.",
	FindingRemoved: "Whole segments are gone, and not by audit.retain: the gateway signs an event that says so before it removes one. " +
		"Someone else removed them.",
	FindingHashes: "What is kept of the segments that audit.retain removed was changed or removed, or the records beside it were. " +
		"The gateway has these hashes on disk before it removes a segment, and never changes them.",
}

// Explain says what the error means and what to do about it, in whole
// sentences. Error says where it is.
func (e *CorruptError) Explain() (meaning, todo string) {
	todo = "Keep the directory as it is: copy it, with its times, before anything else writes there. " +
		"Compare it with a backup or with what was exported to find the original records; who could write to the directory is whom to look for. " +
		"The gateway does not start on this log: to go on at once, give it an empty audit.dir, with the same key."
	switch e.Finding {
	case FindingCut:
		todo = "If someone restored the directory on purpose, put the newer copy back. " + todo
	case FindingHead:
		todo = "First make sure of the key: it is in the gateway's log (audit_key) at each start. " + todo
	case FindingMissing, FindingRemoved:
		todo = "If the files were moved away by hand, put them back, under their names. " + todo
	}
	return meanings[e.Finding], todo
}
