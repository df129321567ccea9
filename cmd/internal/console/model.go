package console

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"github.com/callwarden/callwarden/cmd/internal/board"
	_ "github.com/callwarden/callwarden/cmd/internal/console/background" // before bubbletea
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
)

// Calls is what a console shows and acts on. A [Feed] is one.
type Calls interface {
	Board() *board.Board
	Link() Link
	Do(ctx context.Context, act board.Act) error
}

// Board is what is known of the calls.
func (f *Feed) Board() *board.Board { return f.board }

// Run shows calls on a terminal until the person at it has had enough, or ctx
// ends. who is told in what that person does.
func Run(ctx context.Context, in io.Reader, out io.Writer, look *Look, calls Calls, who string) error {
	m := newModel(ctx, look, calls, who)
	p := tea.NewProgram(m, tea.WithContext(ctx), tea.WithInput(in), tea.WithOutput(out), tea.WithAltScreen(), tea.WithoutSignalHandler())
	if _, err := p.Run(); ctx.Err() == nil {
		return err
	}
	return nil // we were asked to end
}

// refresh is how often the screen is drawn: often enough for eyes, and seldom
// enough for a slow line.
const refresh = 250 * time.Millisecond

// said is how long an answer to what a person did stays.
const said = 6 * time.Second

// view is what is on the screen.
type view uint8

const (
	listView view = iota
	callView
	helpView
)

// model is the state of the screen. It is bubbletea's: Update gets what
// happens, View draws.
type model struct {
	ctx   context.Context //nolint:containedctx // Update has none of its own; it bounds what it starts
	look  *Look
	calls Calls
	who   string
	now   func() time.Time

	width, height int
	at            view
	before        view // of the help
	rows          []*board.Row
	link          Link

	filter  string
	typing  bool // the filter
	live    bool // only calls that go on
	chosen  board.Key
	moved   bool // somebody has chosen; else it is the worst
	top     int  // first row that is shown
	back    int  // lines that the words are scrolled up by
	message string
	until   time.Time
	wrong   bool // the message is of something that did not go well
}

func newModel(ctx context.Context, look *Look, calls Calls, who string) *model {
	return &model{ctx: ctx, look: look, calls: calls, who: who, now: time.Now, width: 80, height: 24}
}

// tick draws anew.
type tick time.Time

// answer is what became of what a person did.
type answer struct {
	text string
	err  error
}

func (m *model) wait() tea.Cmd {
	return tea.Tick(refresh, func(t time.Time) tea.Msg { return tick(t) })
}

// Init implements tea.Model.
func (m *model) Init() tea.Cmd {
	m.read()
	return m.wait()
}

// read takes what is known now.
func (m *model) read() {
	m.link = m.calls.Link()
	words := strings.Fields(strings.ToLower(m.filter))
	m.rows = slices.DeleteFunc(m.calls.Board().Rows(), func(r *board.Row) bool {
		return m.live && r.State != board.Live || !fits(r, words)
	})
	if m.at != listView || len(m.rows) == 0 {
		return
	}
	switch {
	case !m.moved:
		m.chosen = m.rows[0].Key()
	case m.index() < 0:
		m.chosen = m.rows[min(m.top, len(m.rows)-1)].Key()
	}
}

// fits reports whether all words are in what a row says.
func fits(r *board.Row, words []string) bool {
	text := strings.ToLower(strings.Join([]string{r.Tenant, r.ID, r.Source, r.Level, r.Hearing, r.State, r.From, r.FromName, r.To, r.ToName, r.Ack, r.Verdict, tactics(r)}, " "))
	for _, w := range words {
		if !strings.Contains(text, w) {
			return false
		}
	}
	return true
}

// index is the place of the chosen call, -1 where it is not there.
func (m *model) index() int {
	return slices.IndexFunc(m.rows, func(r *board.Row) bool { return r.Key() == m.chosen })
}

// Update implements tea.Model.
func (m *model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case tick:
		m.read()
		return m, m.wait()
	case answer:
		m.say(msg)
		m.read()
	case tea.KeyMsg:
		return m, m.key(msg)
	}
	return m, nil
}

func (m *model) say(a answer) {
	m.message, m.wrong, m.until = a.text, a.err != nil, m.now().Add(said)
	if a.err != nil {
		m.message = a.err.Error()
	}
}

func (m *model) key(k tea.KeyMsg) tea.Cmd {
	if k.Type == tea.KeyCtrlC {
		return tea.Quit
	}
	if m.typing {
		m.typed(k)
		m.read()
		return nil
	}
	if m.at == helpView {
		m.at = m.before
		return nil
	}
	switch k.String() {
	case "q":
		return tea.Quit
	case "?":
		m.before, m.at = m.at, helpView
	case "a":
		return m.act(callwardenv1.Action_ACTION_ACKNOWLEDGED)
	case "s":
		return m.act(callwardenv1.Action_ACTION_SCAM)
	case "n":
		return m.act(callwardenv1.Action_ACTION_NOT_SCAM)
	case "u":
		return m.undo()
	default:
		m.move(k.String())
	}
	return nil
}

// typed is a key while the filter is written.
func (m *model) typed(k tea.KeyMsg) {
	switch k.Type {
	case tea.KeyEnter:
		m.typing = false
	case tea.KeyEsc:
		m.typing, m.filter = false, ""
	case tea.KeyBackspace:
		if r := []rune(m.filter); len(r) > 0 {
			m.filter = string(r[:len(r)-1])
		}
	case tea.KeyCtrlU:
		m.filter = ""
	case tea.KeySpace:
		m.filter += " "
	case tea.KeyRunes:
		m.filter = clean(m.filter + string(k.Runes))
	}
}

func (m *model) move(key string) {
	if m.at == callView {
		m.moveCall(key)
		return
	}
	page := max(1, m.listRows()-1)
	i := m.index()
	switch key {
	case "up", "k":
		i--
	case "down", "j":
		i++
	case "pgup", "ctrl+b":
		i -= page
	case "pgdown", "ctrl+f":
		i += page
	case "home", "g":
		i = 0
	case "end", "G":
		i = len(m.rows) - 1
	case "/":
		m.typing = true
		return
	case "l":
		m.live = !m.live
		m.read()
		return
	case "esc":
		m.filter = ""
		m.read()
		return
	case "enter", "right":
		if m.index() >= 0 {
			m.at, m.back, m.moved = callView, 0, true
		}
		return
	default:
		return
	}
	if len(m.rows) > 0 {
		m.chosen, m.moved = m.rows[min(max(i, 0), len(m.rows)-1)].Key(), i > 0
	}
}

func (m *model) moveCall(key string) {
	page := max(1, m.height/2)
	switch key {
	case "esc", "left", "backspace":
		m.at = listView
		m.read()
	case "up", "k":
		m.back++
	case "down", "j":
		m.back--
	case "pgup", "ctrl+b":
		m.back += page
	case "pgdown", "ctrl+f":
		m.back -= page
	case "home", "g":
		m.back = 1 << 30
	case "end", "G":
		m.back = 0
	case "tab", "]":
		m.next(1)
	case "shift+tab", "[":
		m.next(-1)
	}
	m.back = max(m.back, 0)
}

// next goes to another call without going back to the list.
func (m *model) next(by int) {
	if i := m.index(); i >= 0 {
		m.chosen = m.rows[(i+by+len(m.rows))%len(m.rows)].Key()
		m.back = 0
	}
}

// words for what a person does.
func doing(a callwardenv1.Action) string {
	switch a {
	case callwardenv1.Action_ACTION_ACKNOWLEDGED:
		return "you look after it"
	case callwardenv1.Action_ACTION_SCAM:
		return "it is a scam"
	case callwardenv1.Action_ACTION_NOT_SCAM:
		return "it is not a scam"
	}
	return board.ActionName(a)
}

// act tells that the person did something about the chosen call.
func (m *model) act(action callwardenv1.Action) tea.Cmd {
	row := m.calls.Board().Row(m.chosen)
	if row == nil {
		return nil
	}
	act := board.Act{Key: m.chosen, Source: row.Source, Who: m.who, Action: action, When: m.now()}
	return m.tell(act, "told: "+doing(action)+"; u takes it back")
}

// undo takes back what the person did last about the chosen call.
func (m *model) undo() tea.Cmd {
	call, ok := m.calls.Board().Call(m.chosen)
	if !ok {
		return nil
	}
	for _, a := range slices.Backward(call.Actions) {
		action, known := board.ActionOf(a.Action)
		if a.Who != m.who || a.Undone != 0 || !known || action == callwardenv1.Action_ACTION_PROMPT_PLAYED || action == callwardenv1.Action_ACTION_EVIDENCE_COPIED {
			continue
		}
		act := board.Act{Key: m.chosen, Source: call.Row.Source, Who: m.who, Action: action, Undoes: a.ID, When: m.now()}
		return m.tell(act, "taken back: "+doing(action))
	}
	m.say(answer{err: fmt.Errorf("there is nothing of yours (%s) to take back", m.who)})
	return nil
}

func (m *model) tell(act board.Act, text string) tea.Cmd {
	return func() tea.Msg {
		if err := m.calls.Do(m.ctx, act); err != nil {
			return answer{err: err}
		}
		return answer{text: text}
	}
}

// View implements tea.Model.
func (m *model) View() string {
	if m.width < 20 || m.height < 6 {
		return "the terminal is too small"
	}
	var lines []string
	switch m.at {
	case callView:
		lines = m.callLines()
	case helpView:
		lines = m.helpLines()
	default:
		lines = m.listLines()
	}
	room := m.height - 2
	for len(lines) < room {
		lines = append(lines, "")
	}
	lines = append(lines[:room], m.footer())
	for i, l := range lines {
		lines[i] = m.look.cut(l, m.width)
	}
	return m.header() + "\n" + strings.Join(lines, "\n")
}

// header says what goes on in all.
func (m *model) header() string {
	count := make(map[string]int)
	lively := 0
	for _, r := range m.calls.Board().Rows() {
		if r.State == board.Live {
			lively++
			count[r.Level]++
		}
	}
	left := []string{m.look.bold.Render("callwarden"), fmt.Sprintf("%d live", lively)}
	for _, level := range []string{"critical", "warning", "notice"} {
		if n := count[level]; n > 0 {
			left = append(left, m.look.at(level).Render(fmt.Sprintf("%d %s", n, level)))
		}
	}
	return m.apart(strings.Join(left, "  "), m.linkText())
}

// linkText says how we stand with the server and the machines.
func (m *model) linkText() string {
	l := m.link
	since := clock(m.now().Sub(l.Since))
	switch {
	case !l.Up && l.Why == nil:
		return m.look.dim.Render("connecting")
	case !l.Up:
		return m.look.bad.Render("no server for " + since + ", trying")
	case l.Missed > 0:
		return m.look.bad.Render(fmt.Sprintf("%d events missed", l.Missed))
	case l.Known && l.Machines == 0:
		return m.look.bad.Render("no machine hears calls")
	case l.Full:
		return m.look.bad.Render("machines are full")
	case l.LagP95 >= time.Second:
		return m.look.at("warning").Render(fmt.Sprintf("heard %.1f s late", l.LagP95.Seconds()))
	}
	return m.look.good.Render("up")
}

// apart puts two texts at the ends of a line; the right one goes first where
// there is no room for both.
func (m *model) apart(left, right string) string {
	n := m.width - width(left) - width(right)
	if n < 1 {
		return m.look.cut(left, max(0, m.width-width(right)-1)) + " " + right
	}
	return left + strings.Repeat(" ", n) + right
}

// footer is what was said, the filter, or the keys.
func (m *model) footer() string {
	switch {
	case m.typing:
		return "/" + m.filter + m.look.turned.Render(" ")
	case m.message != "" && m.now().Before(m.until):
		if m.wrong {
			return m.look.bad.Render(clean(m.message))
		}
		return m.look.good.Render(clean(m.message))
	case m.at == callView:
		return m.look.dim.Render("esc list  tab next  a mine  s scam  n no scam  u undo  ? help  q quit")
	case m.at == helpView:
		return m.look.dim.Render("any key goes back")
	}
	keys := "enter open  / filter  a mine  s scam  n no scam  u undo  ? help  q quit"
	if m.filter != "" {
		keys = "filter: " + m.filter + "  (esc for all)  " + keys
	}
	return m.look.dim.Render(keys)
}

func (m *model) helpLines() []string {
	return []string{
		"", m.look.bold.Render("  Keys"), "",
		"  up, down, j, k       another call; in a call, scroll what was said",
		"  pgup, pgdn, g, G     by pages, to the first, to the last",
		"  enter                open the call",
		"  esc                  back to the list; in the list, show all calls again",
		"  tab, shift+tab       the next call, the one before",
		"  /                    only calls with these words: a number, a tactic, a level,",
		"                       a tenant, a way in; enter keeps the filter, esc drops it",
		"  l                    only calls that go on",
		"",
		"  a                    I look after this call",
		"  s, n                 it is a scam; it is not a scam",
		"  u                    take back what I did last",
		"",
		"  q, ctrl+c            quit",
		"",
		"  What you do is told to everybody, with your name: " + clean(m.who),
	}
}
