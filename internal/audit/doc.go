// Package audit is the append-only log of what was asked, refused, sent and
// answered: records that are on disk before anyone relies on them, that show
// when they were tampered with, and that outlive crashes and failing disks. It
// knows no HTTP.
//
// # A directory
//
//	lock                          flock(2): one process at a time
//	checkpoint                    the newest signed head
//	00000000000000000000.jsonl    a segment: JSON lines, named by its first record
//	00000000000000000000.leaves   their leaf hashes, 32 bytes each
//	00000000000000000000.hashes   what is kept of a segment that was removed
//	00000000000000000000.index    derived: which of its records a query need not read
//	00000000000000000000.torn-1   what a start has cut off the segment's end
//	00000000000000000000.jsonl.foreign-1   what someone had put in its place
//
// A record's line, without the newline, is a leaf of the Merkle tree of
// RFC 6962; its seq is the leaf's index. The head states the tree's size and
// root, as a C2SP tlog-checkpoint signed with a key that lives elsewhere. It is
// rewritten at most once a second while the log grows, and at Seal and Close,
// and covers only what is on disk. So a log that is ahead of its head is what a
// crash leaves behind; a head that is ahead of its log, or has another root, is
// tampering. What the last second before a crash wrote is not signed yet.
//
// The leaves are derived: they let [Verify] name the very record that was
// changed, and let [Open] compute the tree without reading old records. They
// are not synced with the records, but with the segment when it ends. Wrong
// ones are rebuilt when the signed head proves the records right.
//
// # Segments
//
// A segment begins with an event that vouches for all before it (see header)
// and comes into being with it, by a rename. Every start begins a new one,
// so that no process ever writes to a file that another has left: what a crash
// tore stays as it was cut, and every file is written by one process from its
// first byte to its last.
//
// The name of a segment says where the one before it ends: if its disk failed
// it may hold more, which is void. Nobody was ever told that this was written.
//
// # Retention
//
// [Retain] removes the oldest segments, or moves them to an archive; the log
// then begins with a later one. Before a segment goes, its copy is on disk in
// the archive, an event "segment_removed" is on record and covered by a signed
// head, and its hashes are on disk: a line "1 <first> <end>", then on each line
// the root, in base64, of one of the largest complete subtrees of RFC 6962 that
// its records are made of, from left to right. They take the tree from the
// segment's first record to its end, so that the heads, the headers and the
// proofs of all that is left hold as before. Headers repeat how many records
// were removed.
//
// So a segment that is gone is accounted for by a signed event; one that is
// gone without it was removed by someone else. Wrong hashes show at the next
// header or head. A segment whose records are no longer what they were when
// they were written is not removed: it is evidence.
//
// # Durability
//
// One goroutine commits. The records that arrive while a sync runs share the
// next one: a pwrite, an fdatasync, and all their callers go on. What they wait
// for:
//
//	Append        pwrite, fdatasync
//	new segment   openat, write, fsync, rename, fsync of the directory, before its first record
//	head          the same; no caller waits for it
//	removal       see Log.remove; no caller waits for it
//
// A failed write is cut off again (ftruncate) before anything else is written.
// A failed fdatasync is never repeated on the same file: the segment is
// abandoned at what was on disk before. Then, and whenever a file turns out to
// be removed, renamed, replaced or truncated by someone else, the log is
// unavailable until a new segment is on disk, and says so in it ("gap",
// "alarm"). It tries at once and then up to once a second, also if nobody
// appends. Numbers of records that failed are used again: the sequence has no
// gaps.
//
// # One final record for each call
//
// An intent is on disk before its call is sent, and has exactly one outcome
// after it, whatever happens: see [Log.Append] for what the log owes to a
// caller whose Append failed, and [Open] for those whose process died.
package audit
