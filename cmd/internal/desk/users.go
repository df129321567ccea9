package desk

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

// role is what somebody may do; each may do what those before it may.
type role int

const (
	nobody  role = iota
	viewer       // looks
	analyst      // judges calls, and takes evidence along
	admin        // deletes, and sees who looked at what
)

func parseRole(s string) role {
	switch strings.ToLower(strings.TrimSpace(s)) {
	case "viewer":
		return viewer
	case "analyst":
		return analyst
	case "admin":
		return admin
	}
	return nobody
}

func (r role) String() string { return [...]string{"nobody", "viewer", "analyst", "admin"}[r] }

// user is somebody who was let in.
type user struct {
	name    string
	role    role
	tenants []string // "*" is all
	token   tokenID  // what they came with; zero where it was no token
}

// sees says whether a tenant's calls are theirs to see.
func (u *user) sees(tenant string) bool {
	return slices.Contains(u.tenants, "*") || slices.Contains(u.tenants, tenant)
}

func (u *user) same(v *user) bool {
	return v != nil && u.name == v.name && u.role == v.role && u.token == v.token && slices.Equal(u.tenants, v.tenants)
}

// tokenID is the SHA-256 of a token: what is kept of it.
type tokenID [sha256.Size]byte

const (
	tokenLeast  = 16      // characters
	tokensBytes = 1 << 20 // of the file
	nameMost    = 128     // bytes of a user's name
)

// readTokens reads a tokens file. A line is
//
//	TOKEN USER ROLE TENANT[,TENANT…]
//
// with spaces between, and * for all tenants; what begins with # is a comment.
// TOKEN has 16 characters at least, or is sha256:HEX of one, so that who reads
// the file does not get in: printf %s TOKEN | sha256sum. Errors name the line
// and never repeat a token.
func readTokens(data []byte) (map[tokenID]*user, error) {
	if len(data) > tokensBytes {
		return nil, fmt.Errorf("%d bytes, limit %d", len(data), tokensBytes)
	}
	users := make(map[tokenID]*user)
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, 64<<10)
	for n := 1; lines.Scan(); n++ {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		if len(fields) != 4 {
			return nil, fmt.Errorf("line %d: has %d fields, want TOKEN USER ROLE TENANTS", n, len(fields))
		}
		id, err := parseToken(fields[0])
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		u := &user{name: fields[1], role: parseRole(fields[2]), tenants: splitTenants(fields[3]), token: id}
		switch {
		case !plainName(u.name):
			return nil, fmt.Errorf("line %d: the user's name must be printable and of at most %d bytes", n, nameMost)
		case u.role == nobody:
			return nil, fmt.Errorf("line %d: role %q must be viewer, analyst or admin", n, fields[2])
		case len(u.tenants) == 0:
			return nil, fmt.Errorf("line %d: has no tenant; * is all", n)
		case users[id] != nil:
			return nil, fmt.Errorf("line %d: the token is there already", n)
		}
		users[id] = u
	}
	if err := lines.Err(); err != nil {
		return nil, errors.New("has a line that is too long")
	}
	return users, nil
}

func parseToken(s string) (id tokenID, err error) {
	if h, ok := strings.CutPrefix(s, "sha256:"); ok {
		sum, err := hex.DecodeString(h)
		if err != nil || len(sum) != len(id) {
			return id, errors.New("sha256: must be followed by 64 hexadecimal digits")
		}
		return tokenID(sum), nil
	}
	if len(s) < tokenLeast {
		return id, fmt.Errorf("the token must have at least %d characters", tokenLeast)
	}
	return sha256.Sum256([]byte(s)), nil
}

func splitTenants(s string) []string {
	var tenants []string
	for t := range strings.SplitSeq(s, ",") {
		if t = strings.TrimSpace(t); t != "" {
			tenants = append(tenants, t)
		}
	}
	return tenants
}

func plainName(s string) bool {
	return s != "" && len(s) <= nameMost && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// tokens are the people of a tokens file, as it is now.
type tokens struct {
	file string
	key  []byte // signs sessions
	log  *slog.Logger

	mu      sync.Mutex
	users   map[tokenID]*user
	read    []byte        // SHA-256 of what was read
	trouble error         // why the file as it is does not count
	changed chan struct{} // closed when users changes
	ended   map[string]time.Time
}

// openTokens reads file, whose errors are told: a desk without its users would
// be closed to all.
func openTokens(file string, key []byte, log *slog.Logger) (*tokens, error) {
	t := &tokens{file: file, key: key, log: log, changed: make(chan struct{}), ended: make(map[string]time.Time)}
	if err := t.reload(); err != nil {
		return nil, fmt.Errorf("tokens_file: %w", err)
	}
	if info, err := os.Stat(file); err == nil && info.Mode().Perm()&0o077 != 0 {
		log.Warn("tokens of the desk can be read by others than their owner", "file", file)
	}
	return t, nil
}

// reload reads the file again where it has changed. While it cannot be read or
// understood the users are those that it had.
func (t *tokens) reload() error {
	data, err := os.ReadFile(t.file)
	t.mu.Lock()
	defer t.mu.Unlock()
	sum := sha256.Sum256(data)
	if err == nil && t.trouble == nil && bytes.Equal(sum[:], t.read) {
		return nil
	}
	var users map[tokenID]*user
	if err == nil {
		if users, err = readTokens(data); err != nil {
			err = fmt.Errorf("%s: %w", t.file, err)
		}
	}
	if err != nil {
		if t.trouble == nil || t.trouble.Error() != err.Error() {
			t.log.Error("tokens of the desk cannot be read, those from before count", "err", err)
		}
		t.trouble = err
		return err
	}
	if t.read != nil {
		t.log.Info("tokens of the desk are read again", "users", len(users))
	}
	t.users, t.read, t.trouble = users, sum[:], nil
	close(t.changed)
	t.changed = make(chan struct{})
	return nil
}

// of is who has a token, nil for nobody.
func (t *tokens) of(id tokenID) *user {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.users[id]
}

// watch is closed when the users change.
func (t *tokens) watch() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.changed
}

// A session is a cookie that says which token it came from and until when, and
// is signed: it needs no memory, and ends with its token. Of those who sign out
// the cookie is remembered until it would have ended.

const sessionBytes = sha256.Size + 8 + 16 // token id, end, chance

func (t *tokens) session(id tokenID, until time.Time) string {
	b := make([]byte, 0, sessionBytes+sha256.Size)
	b = append(b, id[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(until.Unix()))
	chance := make([]byte, 16)
	_, _ = rand.Read(chance) // never fails, says its documentation
	b = append(b, chance...)
	return base64.RawURLEncoding.EncodeToString(append(b, t.sign(b)...))
}

func (t *tokens) sign(b []byte) []byte {
	h := hmac.New(sha256.New, t.key)
	h.Write(b)
	return h.Sum(nil)
}

// resume is who a session is of, nil for nobody.
func (t *tokens) resume(cookie string, now time.Time) *user {
	b, err := base64.RawURLEncoding.DecodeString(cookie)
	if err != nil || len(b) != sessionBytes+sha256.Size || !hmac.Equal(b[sessionBytes:], t.sign(b[:sessionBytes])) {
		return nil
	}
	if now.Unix() >= int64(binary.BigEndian.Uint64(b[sha256.Size:])) {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, out := t.ended[cookie]; out {
		return nil
	}
	return t.users[tokenID(b[:sha256.Size])]
}

// end ends a session, and the streams that it has.
func (t *tokens) end(cookie string, now time.Time, session time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for c, until := range t.ended {
		if now.After(until) {
			delete(t.ended, c)
		}
	}
	t.ended[cookie] = now.Add(session)
	close(t.changed)
	t.changed = make(chan struct{})
}

// wrong is why the file as it is does not count, nil if it does.
func (t *tokens) wrong() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.trouble
}
