package domains

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mde-exporter/mde_exporter/collector"
	"github.com/mde-exporter/mde_exporter/internal/readfile"
)

const (
	// listsTimeout bounds one look at all files, however many hang.
	listsTimeout = 2 * readfile.Timeout
	// parallelReads is how many files are looked at together.
	parallelReads = 16
	// mtimeGranularity is more than any file system rounds a file's time by. A
	// file that changed so shortly before it was read may change again without
	// another time.
	mtimeGranularity = 3 * time.Second
	// rereadInterval is when a file is read although it looks unchanged: some
	// tools and file systems keep size, time and inode.
	rereadInterval = time.Minute
	// pollInterval is how often Poll looks, for all of its callers together.
	pollInterval = 4 * time.Second
	// unusedLists is how long a list is kept that nobody asks for.
	unusedLists = time.Hour
	// maxMistakes bounds the mistakes that are kept of one file.
	maxMistakes = 100
)

// Lists reads the watch-list files of all tenants. A file is read and
// parsed once, however many tenants name it, and again only when it changed. The
// zero value is ready for use, and its methods may be called concurrently.
type Lists struct {
	// Logger takes what changes in the files. Nil means that nothing does.
	Logger *slog.Logger

	mistakes int // That are kept of one file; 0 means maxMistakes.

	reading sync.Mutex           // Held while files are looked at.
	files   map[string]*listFile // By path, as of the last look.
	looked  time.Time            // When the last look began.

	mu    sync.Mutex
	lists map[string]*usedList // By patterns.
}

// List is what the files of some patterns hold. It does not change: another
// state of the files is another List.
type List struct {
	// Domains are those in force: sorted, each once.
	Domains []string
	// Mistakes are those of the files as they are now, at most 100 of a file.
	Mistakes []collector.Mistake
	// Old reports that the files have mistakes and that Domains are those of the
	// last state without any. Otherwise Domains are those of all lines that are
	// right.
	Old bool

	files []*listFile // Those with which it was made.

	makeLabels sync.Once
	madeLabels []*collector.Label
}

// labels are those of the domains, for all tenants that watch the list.
func (l *List) labels() []*collector.Label {
	l.makeLabels.Do(func() { l.madeLabels = domainLabels(l.Domains) })
	return l.madeLabels
}

// usedList is a List and when it was last asked for.
type usedList struct {
	patterns []string
	list     *List // Nil before the first look.
	asked    time.Time
}

// listFile is a watch-list file as it was read.
type listFile struct {
	info     fs.FileInfo // From before it was read; nil where there is none.
	readAt   time.Time
	sum      [sha256.Size]byte
	domains  []string
	mistakes []collector.Mistake
}

// Read looks at all files now: those of the lists in use, and those of the
// patterns, which are lists in use from then on. A file that does not answer
// within seconds is a mistake of its lists. Read gives up when ctx ends, and
// then changes nothing.
func (l *Lists) Read(ctx context.Context, patterns ...[]string) {
	l.reading.Lock()
	defer l.reading.Unlock()
	for _, p := range patterns {
		l.use(p)
	}
	l.look(ctx)
}

// Poll looks at the files of the lists in use, unless that was done within the
// last seconds or is being done.
func (l *Lists) Poll(ctx context.Context) {
	if !l.reading.TryLock() {
		return
	}
	defer l.reading.Unlock()
	if time.Since(l.looked) >= pollInterval {
		l.look(ctx)
	}
}

// List returns the list of the patterns as of the last look. It looks at the
// files only if nobody asked for the list within the last hour.
func (l *Lists) List(patterns []string) *List {
	if list := l.use(patterns); list != nil {
		return list
	}
	l.Read(context.Background(), patterns)
	return l.use(patterns)
}

// use returns the list of the patterns, nil before the first look, and keeps it in use.
func (l *Lists) use(patterns []string) *List {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := strings.Join(patterns, "\x00")
	used := l.lists[key]
	if used == nil {
		if l.lists == nil {
			l.lists = make(map[string]*usedList)
		}
		used = &usedList{patterns: patterns}
		l.lists[key] = used
	}
	used.asked = time.Now()
	return used.list
}

// inUse forgets the lists that nobody asked for lately and returns the others.
func (l *Lists) inUse(now time.Time) []*usedList {
	l.mu.Lock()
	defer l.mu.Unlock()
	var used []*usedList
	for key, u := range l.lists {
		if now.Sub(u.asked) > unusedLists {
			delete(l.lists, key)
			continue
		}
		used = append(used, u)
	}
	return used
}

// look brings every list in use up to date. The reading lock is held.
func (l *Lists) look(ctx context.Context) {
	l.looked = time.Now()
	used := l.inUse(l.looked)
	bounded, cancel := context.WithTimeoutCause(ctx, listsTimeout, fmt.Errorf("not read within %s: check the file system that holds it", listsTimeout))
	defer cancel()

	patterns := make(map[string]*[]string)
	for _, u := range used {
		for _, pattern := range u.patterns {
			patterns[pattern] = new([]string)
		}
	}
	var failedMu sync.Mutex
	failed := make(map[string]*listFile) // By pattern.
	inParallel(patterns, func(pattern string, paths *[]string) {
		var err error
		if *paths, err = readfile.Files(bounded, pattern); err != nil {
			failedMu.Lock()
			defer failedMu.Unlock()
			failed[pattern] = l.files[pattern].failed(pattern, err)
		}
	})
	files := make(map[string]*listFile)
	next := make(map[string]**listFile)
	for _, paths := range patterns {
		for _, path := range *paths {
			next[path] = new(*listFile)
		}
	}
	inParallel(next, func(path string, file **listFile) {
		*file = l.files[path].current(bounded, path, cmp.Or(l.mistakes, maxMistakes))
	})
	for path, file := range next {
		files[path] = *file
	}
	maps.Copy(files, failed)
	if ctx.Err() != nil {
		return
	}
	l.files = files
	for _, u := range used {
		var sources []*listFile
		for _, pattern := range u.patterns {
			if file := failed[pattern]; file != nil {
				sources = append(sources, file)
			}
			for _, path := range *patterns[pattern] {
				sources = append(sources, files[path])
			}
		}
		l.update(u, sources)
	}
}

// update makes a list of its files, if these are others than before.
func (l *Lists) update(u *usedList, files []*listFile) {
	last := u.list
	if last != nil && slices.Equal(last.files, files) {
		return
	}
	list := newWatchList(files, last)
	l.mu.Lock()
	u.list = list
	l.mu.Unlock()
	if l.Logger == nil || len(u.patterns) == 0 {
		return
	}
	logger := l.Logger.With("files", strings.Join(u.patterns, ", "), "domains", len(list.Domains))
	switch {
	case list.Old:
		logger.Warn("Watch list invalid, keeping the last valid list", "err", list.Summary())
	case len(list.Mistakes) > 0:
		logger.Warn("Watch list invalid, using only its valid lines", "err", list.Summary())
	case last != nil:
		logger.Info("Watch list changed")
	}
}

// newWatchList merges files into a list. Last is the list before, nil where
// there is none.
func newWatchList(files []*listFile, last *List) *List {
	list := &List{files: files}
	for _, file := range files {
		list.Mistakes = append(list.Mistakes, file.mistakes...)
	}
	if last != nil && len(list.Mistakes) > 0 && (last.Old || len(last.Mistakes) == 0) {
		list.Domains, list.Old = last.Domains, true
		return list
	}
	for _, file := range files {
		list.Domains = append(list.Domains, file.domains...)
	}
	slices.Sort(list.Domains)
	list.Domains = slices.Clip(slices.Compact(list.Domains))
	return list
}

// Summary is the first few mistakes in one line; empty where there are none.
func (l *List) Summary() string {
	const named = 5
	var lines []string
	for _, p := range l.Mistakes[:min(named, len(l.Mistakes))] {
		lines = append(lines, p.String())
	}
	if len(l.Mistakes) > named {
		lines = append(lines, "and more: run --config.check")
	}
	return strings.Join(lines, "; ")
}

// current returns the file as it is now, which is f itself where its content did
// not change. Nil f was not read yet.
func (f *listFile) current(ctx context.Context, path string, most int) *listFile {
	now := time.Now()
	info, err := readfile.Stat(ctx, path)
	if err != nil {
		return f.failed(path, err)
	}
	if f.unchanged(info, now) {
		return f
	}
	data, err := readfile.Text(ctx, path, maxListBytes)
	if err != nil {
		return f.failed(path, err)
	}
	sum := sha256.Sum256(data)
	if f != nil && f.sum == sum {
		f.info, f.readAt = info, now
		return f
	}
	domains, mistakes := parseList(path, data)
	return &listFile{info: info, readAt: now, sum: sum, domains: domains, mistakes: slices.Clone(mistakes[:min(most, len(mistakes))])}
}

// failed returns the file as one that cannot be read, which is f itself where it
// failed in the same way before.
func (f *listFile) failed(path string, err error) *listFile {
	failed := &listFile{mistakes: []collector.Mistake{{File: path, Message: readfile.Reason(err)}}}
	if f != nil && f.info == nil && slices.Equal(f.mistakes, failed.mistakes) {
		return f
	}
	return failed
}

// unchanged reports whether the file needs no reading now to know its content.
func (f *listFile) unchanged(info fs.FileInfo, now time.Time) bool {
	return f != nil && f.info != nil && os.SameFile(f.info, info) &&
		f.info.Size() == info.Size() && f.info.ModTime().Equal(info.ModTime()) &&
		f.readAt.Sub(info.ModTime()) > mtimeGranularity && now.Sub(f.readAt) < rereadInterval
}

// inParallel calls do for every entry, several at a time.
func inParallel[T any](entries map[string]T, do func(key string, value T)) {
	var wg sync.WaitGroup
	tokens := make(chan struct{}, parallelReads)
	for key, value := range entries {
		tokens <- struct{}{}
		wg.Go(func() {
			defer func() { <-tokens }()
			do(key, value)
		})
	}
	wg.Wait()
}
