package authn

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"regexp"
	"strings"
)

const (
	// KeyPrefix begins every API key, so that a scanner finds one that leaked.
	KeyPrefix = "c1p_"
	// secretSize is the random part of a key, in bytes.
	secretSize = 32
)

// keyEncoding is RFC 4648's base64url without padding; 36 bytes are 48 letters.
var keyEncoding = base64.RawURLEncoding.Strict()

// NewKey returns a new API key: the prefix, then base64url of 256 random bits
// and their CRC-32, by which a typo is told from a key that is unknown.
func NewKey() string {
	payload := make([]byte, secretSize, secretSize+crc32.Size)
	rand.Read(payload) // never fails: crypto/rand
	payload = binary.BigEndian.AppendUint32(payload, crc32.ChecksumIEEE(payload))
	return KeyPrefix + keyEncoding.EncodeToString(payload)
}

// A Hash is the SHA-256 of a whole API key, the only form in which c1proxy
// keeps one.
type Hash [sha256.Size]byte

// HashKey returns the hash of an API key.
func HashKey(key string) Hash { return sha256.Sum256([]byte(key)) }

// String is the hash in lower-case hex, as the configuration has it.
func (h Hash) String() string { return fmt.Sprintf("%x", h[:]) }

// ID names the key in records and messages: "key:" and eight hex digits of
// its hash. It proves nothing and gives nothing away.
func (h Hash) ID() string { return fmt.Sprintf("key:%x", h[:4]) }

// checkKey says what is wrong with the form of a key, if anything, in words
// that hold nothing of it.
func checkKey(key string) error {
	encoded, ok := strings.CutPrefix(key, KeyPrefix)
	if !ok {
		if strings.Count(key, ".") == 2 {
			return errors.New("the bearer token looks like a JWT; this c1proxy takes API keys, which begin with " + KeyPrefix)
		}
		return errors.New("the bearer token is not a c1proxy API key, which begins with " + KeyPrefix)
	}
	payload, err := keyEncoding.DecodeString(encoded)
	if err != nil || len(payload) != secretSize+crc32.Size ||
		binary.BigEndian.Uint32(payload[secretSize:]) != crc32.ChecksumIEEE(payload[:secretSize]) {
		return errors.New("the API key is mistyped or cut: its checksum does not match")
	}
	return nil
}

// keyLike finds API keys in a text, those too that are cut or mistyped: most of
// a key is as good as the whole.
var keyLike = regexp.MustCompile(KeyPrefix + `[A-Za-z0-9_-]{16,}`)

// tokenLike finds JWTs in a text: two parts or more, the first base64url of what
// begins as a JSON object ("{" and a quote or a blank), the second too, or as
// long as a signature.
var tokenLike = regexp.MustCompile(`e(?:yJ|yA|wo|w0|wk)[A-Za-z0-9_-]{8,}\.(?:e(?:yJ|yA|wo|w0|wk)[A-Za-z0-9_-]{8,}|[A-Za-z0-9_-]{40,})(?:\.[A-Za-z0-9_-]*)*`)

// HoldsKey tells whether there is an API key in a text.
func HoldsKey(text string) bool {
	return strings.Contains(text, KeyPrefix) && keyLike.MatchString(text)
}

// Holds tells whether there is an API key or a JWT in a text.
func Holds(text string) bool {
	return HoldsKey(text) || mayHoldToken(text) && tokenLike.MatchString(text)
}

// mayHoldToken is a quick look that most texts do not pass.
func mayHoldToken(text string) bool {
	return strings.IndexByte(text, '.') >= 0 && (strings.Contains(text, "ey") || strings.Contains(text, "ew"))
}

// Scrub returns a text with "c1p_[redacted]" for each API key in it, and
// "jwt_[redacted]" for each JWT. Whatever a caller writes of its own into a
// record or a message goes through it: people put them where they do not belong.
func Scrub(text string) string {
	if strings.Contains(text, KeyPrefix) {
		text = keyLike.ReplaceAllString(text, KeyPrefix+"[redacted]")
	}
	if mayHoldToken(text) {
		text = tokenLike.ReplaceAllString(text, "jwt_[redacted]")
	}
	return text
}
