package collector

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/common/model"

	"github.com/mde-exporter/mde_exporter/client"
)

// StatesClient is what SecurityStates asks of a tenant's client; *client.Client
// implements it.
type StatesClient interface {
	SecurityStates(ctx context.Context) iter.Seq2[*client.SecurityState, error]
	Machines(ctx context.Context) iter.Seq2[*client.Machine, error]
	AntivirusHealth(ctx context.Context) iter.Seq2[*client.AntivirusHealth, error]
	HoldsSecret(name string) bool
}

// SecurityStatesOptions configure a SecurityStates.
type SecurityStatesOptions struct {
	StatesConfig
	Env
	Client StatesClient
	// Interval and MaxAge are those of the Schedule.
	Interval, MaxAge time.Duration
	// Fleet takes the machines with which watched domains are joined. It belongs to
	// the Client. Nil means a Fleet of its own.
	Fleet *Fleet
}

// SecurityStates counts the machines of a tenant by build, architecture and the
// properties that require attention.
type SecurityStates struct {
	options SecurityStatesOptions
	logger  *slog.Logger
	memory  memory
	dropped droppedLabels
	again   atomic.Bool // The preview is to be asked at the next refresh.

	// Of the goroutine that refreshes.
	last    *statesResult
	source  sourceChoice
	indexed int // Machines in the last index that was complete: the next one has room for them.
	read    int // Rows of the refresh under way.

	mu      sync.Mutex
	notes   []string
	summary StatesSummary
}

const statesName = "security_states"

// NewSecurityStates returns a collector that has not asked anything yet.
func NewSecurityStates(o SecurityStatesOptions) *SecurityStates {
	if o.Source == "" {
		o.Source = SourceAuto
	}
	if o.MaxMachines == 0 {
		o.MaxMachines = DefaultMaxMachines
	}
	if o.Fleet == nil {
		o.Fleet = &Fleet{}
	}
	o.Fleet.Expect(o.MaxAge)
	logger := o.Logger.With("tenant", o.Tenant, "collector", statesName)
	return &SecurityStates{
		options: o,
		logger:  logger,
		memory:  newMemory(o.Store, logger),
		dropped: newDroppedLabels(o.Metrics, o.Client.HoldsSecret),
	}
}

// Fleet is the machines with which watched domains are joined.
func (s *SecurityStates) Fleet() *Fleet { return s.options.Fleet }

// StatesSummary is what a page shows of the states that were counted last.
type StatesSummary struct {
	// At is when reading them began; zero means never.
	At                  time.Time
	Source              string
	Machines, Requiring int
	// Withdrawn says that they are older than the maximum age: they are no longer
	// exposed, and must not be shown as current.
	Withdrawn bool
}

// Summary returns the states that were counted last, however old. It never
// waits for an API.
func (s *SecurityStates) Summary() StatesSummary {
	s.mu.Lock()
	defer s.mu.Unlock()
	summary := s.summary
	summary.Withdrawn = !summary.At.IsZero() && !isFresh(summary.At, s.options.MaxAge)
	return summary
}

// Reloaded makes the next refresh ask a refused preview again.
func (s *SecurityStates) Reloaded() { s.again.Store(true) }

// Page describes the states that were counted last, and those that could not be read.
func (s *SecurityStates) Page() Page {
	summary := s.Summary()
	s.mu.Lock()
	defer s.mu.Unlock()
	return Page{Notes: s.notes, Source: summary.Source, Summary: summary.text(s.options.MaxAge), MaxAge: s.options.MaxAge}
}

// text is empty where nothing was ever read.
func (s StatesSummary) text(maxAge time.Duration) string {
	switch {
	case s.At.IsZero():
		return ""
	case s.Withdrawn:
		return fmt.Sprintf("values withdrawn: older than max_age %s", model.Duration(maxAge))
	default:
		return fmt.Sprintf("%d machines, %d require attention", s.Machines, s.Requiring)
	}
}

// Start publishes the stored result, unless it is of another shape. Of one that
// is too old only the time is shown.
func (s *SecurityStates) Start(_ context.Context, p *Publisher) time.Time {
	p.OnWithdraw(s.options.Fleet.Withdraw)
	s.dropped.announce()
	s.loadSource()
	r, snapshot, err := s.restore()
	if err != nil {
		s.logger.Warn("The stored security states are set aside", "err", err)
	}
	if r == nil {
		if s.options.Fleet.current().unknown {
			s.options.Fleet.Withdraw()
		}
		return time.Time{}
	}
	fresh := isFresh(r.At, s.options.MaxAge)
	if !fresh {
		snapshot.Blocks = nil
	}
	snapshot.Share = func() { s.options.Fleet.resume(r.At, s.options.MaxAge) }
	p.Publish(snapshot)
	s.summarize(r)
	if fresh {
		p.Ready()
		s.last = r
	}
	return r.At
}

// restore returns the stored result, nil where there is none that can be shown
// with the labels that are configured.
func (s *SecurityStates) restore() (*statesResult, Snapshot, error) {
	var r statesResult
	if !s.memory.load(statesName, &r) {
		return nil, Snapshot{}, nil
	}
	if err := r.check(); err != nil {
		return nil, Snapshot{}, err
	}
	if r.RevisionLabel != s.options.RevisionLabel {
		return nil, Snapshot{}, nil
	}
	snapshot, err := s.snapshot(&r)
	if err != nil {
		return nil, Snapshot{}, err
	}
	return &r, snapshot, nil
}

// Follow returns at once: nothing changes the states but a refresh.
func (s *SecurityStates) Follow(context.Context) {}

// isFresh reports whether values of that time, by the wall clock, may be served.
func isFresh(at time.Time, maxAge time.Duration) bool { return time.Since(wall(at)) < maxAge }

// checkTime refuses the time of a stored result that is to come, as of a clock
// that was wrong, and one that is missing.
func checkTime(at time.Time) error {
	switch {
	case at.IsZero():
		return errors.New("no time")
	case time.Until(at) > time.Minute:
		return fmt.Errorf("its time, %s, is still to come", at.UTC().Format(time.RFC3339))
	default:
		return nil
	}
}

// Refresh counts the whole fleet and returns the counts, or changes nothing.
func (s *SecurityStates) Refresh(ctx context.Context) (Outcome, error) {
	began := wall(time.Now())
	s.read = 0
	c, err := s.count(ctx)
	if err != nil {
		s.collectGarbage()
		return Outcome{}, err
	}
	r := c.result(began)
	snapshot, err := s.snapshot(r)
	if err != nil {
		return Outcome{}, err
	}
	s.last = r
	fleet := &shownFleet{at: r.At, maxAge: s.options.MaxAge, attention: c.attention}
	snapshot.Share = func() {
		s.options.Fleet.set(fleet)
		s.summarize(r)
		s.collectGarbage()
	}
	s.memory.save(statesName, r)
	return Outcome{Snapshot: &snapshot}, nil
}

// largeFleet is how many rows leave so much garbage behind that it is collected at
// once, and not only when the heap has doubled: an index of millions of machines
// would be held twice. The index has no pointers, so this takes a few milliseconds.
const largeFleet = 100_000

// countRow counts a row of the refresh under way, and collects the garbage of every
// fifth large fleet of them.
func (s *SecurityStates) countRow() {
	if s.read++; s.read%(5*largeFleet) == 0 {
		runtime.GC()
	}
}

// collectGarbage frees the memory of a refresh that read a large fleet, whether it
// succeeded or not.
func (s *SecurityStates) collectGarbage() {
	if s.read >= largeFleet {
		runtime.GC()
	}
}

// snapshot is a result as it is exposed until it is too old. Where it came from
// stays.
func (s *SecurityStates) snapshot(r *statesResult) (Snapshot, error) {
	counts, err := r.counts(s.options.Tenant, r.At.Add(s.options.MaxAge))
	if err != nil {
		return Snapshot{}, err
	}
	source, err := r.sourceInfo(s.options.Tenant)
	if err != nil {
		return Snapshot{}, err
	}
	return Snapshot{Blocks: []*Block{counts, source}, At: r.At}, nil
}

// summarize keeps what a page shows of a result.
func (s *SecurityStates) summarize(r *statesResult) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.summary = r.summary()
}

// count reads the fleet from the configured source.
func (s *SecurityStates) count(ctx context.Context) (*fleetCount, error) {
	switch s.options.Source {
	case SourcePreview:
		return s.countTwiceIfEmpty(ctx, s.countPreview)
	case SourceMachines:
		return s.countTwiceIfEmpty(ctx, s.countMachines)
	default:
		return s.countAuto(ctx)
	}
}

// countTwiceIfEmpty counts, and counts again where the answer was an empty fleet
// that was not empty before, or errNoMachines. A second answer that says the same
// is accepted.
func (s *SecurityStates) countTwiceIfEmpty(ctx context.Context, count func(context.Context) (*fleetCount, error)) (*fleetCount, error) {
	c, err := count(ctx)
	doubtful := errors.Is(err, errNoMachines) || err == nil && c.machines == 0 && s.last.sum(machinesGauge) > 0
	if !doubtful {
		return c, err
	}
	s.logger.Info("Fleet is empty, asking once more")
	c, err = count(ctx)
	if errors.Is(err, errNoMachines) {
		return c, nil
	}
	return c, err
}

func (s *SecurityStates) countPreview(ctx context.Context) (*fleetCount, error) {
	c := s.newCount(SourcePreview)
	rows := 0
	for state, err := range s.options.Client.SecurityStates(ctx) {
		if err != nil {
			e, ok := errors.AsType[*client.Error](err)
			err = fmt.Errorf("read machine security states: %w", err)
			if ok && rows == 0 && isRefusal(e) {
				return nil, refusedError{err, isOwnError(e)}
			}
			return nil, err
		}
		rows++
		s.countRow()
		if err := c.securityState(state); err != nil {
			return nil, fmt.Errorf("read machine security states: %w", err)
		}
	}
	if err := c.securityStates(); err != nil {
		return nil, fmt.Errorf("read machine security states: %w", err)
	}
	s.noteAntivirus(nil)
	return c, nil
}

// errNoMachines says that the service itself answers 404 for /api/machines, which
// means that there are none. It comes with an empty count.
var errNoMachines = errors.New("404 from /api/machines")

// countMachines reads the antivirus rows first, so that one index serves to join
// them and to count each machine once.
func (s *SecurityStates) countMachines(ctx context.Context) (*fleetCount, error) {
	c, err := s.countAntivirus(ctx)
	if err != nil {
		return nil, err
	}
	rows := 0
	for machine, err := range s.options.Client.Machines(ctx) {
		if err != nil {
			if e, ok := errors.AsType[*client.Error](err); ok && rows == 0 && e.API == client.Machines && e.NotFound() {
				c.allMachines()
				return c, errNoMachines
			}
			return nil, fmt.Errorf("read machines: %w", err)
		}
		rows++
		s.countRow()
		if err := c.machine(machine); err != nil {
			return nil, fmt.Errorf("read machines: %w", err)
		}
	}
	s.indexed = c.known.Len()
	c.allMachines()
	return c, nil
}

// countAntivirus begins a count with the antivirus rows, or without them where
// the service itself says that the app may not read them or that there are none.
// A 404 is asked once more.
func (s *SecurityStates) countAntivirus(ctx context.Context) (*fleetCount, error) {
	c, err := s.readAntivirus(ctx)
	if e, ok := errors.AsType[*client.Error](err); ok && e.API == client.DeviceAVInfo && e.Status == http.StatusNotFound {
		c, err = s.readAntivirus(ctx)
	}
	if err == nil {
		s.noteAntivirus(nil)
		return c, nil
	}
	if e, ok := errors.AsType[*client.Error](err); ok && refusesAntivirus(e) {
		s.noteAntivirus(err)
		c := s.newCount(SourceMachines)
		c.incomplete = true
		return c, nil
	}
	return nil, fmt.Errorf("read antivirus health: %w", err)
}

// refusesAntivirus reports whether /api/deviceavinfo itself is unavailable to the
// app. An answer of a gateway in its place is a failure, and so is a 401, which is
// about the token: neither may drop the antivirus properties of the whole fleet.
func refusesAntivirus(e *client.Error) bool {
	if e.API != client.DeviceAVInfo || !isOwnError(e) {
		return false
	}
	switch e.Status {
	case http.StatusForbidden, http.StatusNotFound, http.StatusGone:
		return true
	default:
		return false
	}
}

func (s *SecurityStates) readAntivirus(ctx context.Context) (*fleetCount, error) {
	c := s.newCount(SourceMachines)
	now := time.Now()
	for row, err := range s.options.Client.AntivirusHealth(ctx) {
		if err != nil {
			return nil, err
		}
		s.countRow()
		if err := c.antivirusRow(row, now); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// noteAntivirus tells the page, and once the log, whether antivirus states are
// missing.
func (s *SecurityStates) noteAntivirus(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err != nil:
		if s.notes == nil {
			s.logger.Warn("Antivirus states are missing: the app may not read /api/deviceavinfo. Grant it the role "+client.DeviceAVInfo.Role(), "err", err)
		}
		s.notes = []string{"Antivirus states are missing: the app may not read /api/deviceavinfo. Grant it the role " + client.DeviceAVInfo.Role() + ". " + err.Error()}
	case s.notes != nil:
		s.logger.Info("Antivirus states are there again")
		s.notes = nil
	}
}

func (s *SecurityStates) newCount(source string) *fleetCount {
	return newFleetCount(source, s.indexed, s.options.MaxMachines, s.last, s.options.RevisionLabel, s.dropped)
}
