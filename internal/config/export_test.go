package config

// CheckMode is seen by tests alone: a test has one user.
var CheckMode = checkMode
