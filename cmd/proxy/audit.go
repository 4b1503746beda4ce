package main

type auditCommand struct {
	Verify     auditVerifyCommand     `cmd:"" help:"Check that no record below the signed head was changed, removed, swapped or added. Exit 1 names the first bad one."`
	Query      auditQueryCommand      `cmd:"" help:"Print records: a table on a terminal, JSON lines in a pipe."`
	Export     auditExportCommand     `cmd:"" help:"Write records as JSON lines or OCSF events, once or as they come."`
	Checkpoint auditCheckpointCommand `cmd:"" help:"Print the newest signed head, to be kept elsewhere and given to verify."`
	Prove      auditProveCommand      `cmd:"" help:"Prove to a third party that a record is in the log, or that the log has only grown."`
	CheckProof auditCheckProofCommand `cmd:"" name:"check-proof" help:"Check a proof of prove. Exit 1 says why it proves nothing."`

	Hash           auditHashCommand   `cmd:"" help:"Print how a value stands in the records where audit.fields has it hashed, to look for it."`
	RotateHashKeys auditRotateCommand `cmd:"" help:"Put a new key before those in audit.hash_keys_file. The gateway hashes with it from its next start or reload (SIGHUP) on."`
}
