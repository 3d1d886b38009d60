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
	// listsTimeout is the timeout of reading all files.
	listsTimeout = 2 * readfile.Timeout
	// parallelReads limits concurrent reads of files.
	parallelReads = 16
	// mtimeGranularity is larger than the resolution of any file system's timestamps. A
	// file that changed so shortly before it was read may change again without a new
	// timestamp.
	mtimeGranularity = 3 * time.Second
	// rereadInterval is the interval of reading files that look unchanged: some tools
	// and file systems keep size, time and inode.
	rereadInterval = time.Minute
	// pollInterval is the minimum interval of Poll, for all callers together.
	pollInterval = 4 * time.Second
	// unusedLists is how long an unused list is kept.
	unusedLists = time.Hour
	// maxMistakes limits the mistakes that are kept of a file.
	maxMistakes = 100
)

// Lists reads the watch-list files of all tenants. A file that several tenants use is
// read and parsed once, and again only after it changed. The zero value is ready for
// use. The methods are safe for concurrent use.
type Lists struct {
	// Logger logs changes of the files. Nil means no logging.
	Logger *slog.Logger

	mistakes int // Limit of each file; 0 means maxMistakes.

	reading  sync.Mutex           // Held while files are read.
	files    map[string]*listFile // By path or failed pattern, as last read.
	lastRead time.Time            // Start of the last read.

	mu    sync.Mutex
	lists map[string]*usedList // By joined patterns.
}

// List is the content of the files of some patterns. It is immutable: changed files
// make a new List.
type List struct {
	// Domains are the domains in force, sorted and without duplicates.
	Domains []string
	// Mistakes are those in the current files, at most 100 of each file.
	Mistakes []collector.Mistake
	// Old means that the current files have mistakes and that Domains are those of the
	// last state without mistakes. If it is false, Domains are those of all valid
	// lines.
	Old bool

	files []*listFile // The files that it was made from.

	labelsOnce   sync.Once
	sharedLabels []*collector.Label
}

// labels returns the labels of the domains, shared by all tenants with the list.
func (l *List) labels() []*collector.Label {
	l.labelsOnce.Do(func() { l.sharedLabels = domainLabels(l.Domains) })
	return l.sharedLabels
}

// usedList is a List and the time of its last use.
type usedList struct {
	patterns []string
	list     *List // Nil before the first read.
	usedAt   time.Time
}

// listFile is the content of a watch-list file.
type listFile struct {
	info     fs.FileInfo // From before it was read; nil if it could not be read.
	readAt   time.Time
	sum      [sha256.Size]byte
	domains  []string
	mistakes []collector.Mistake
}

// Read reads all changed files of the lists in use and of the patterns, which come into
// use. A file that cannot be read within seconds is a mistake of its lists. If ctx
// ends, Read returns without changes.
func (l *Lists) Read(ctx context.Context, patterns ...[]string) {
	l.reading.Lock()
	defer l.reading.Unlock()
	for _, p := range patterns {
		l.use(p)
	}
	l.readAll(ctx)
}

// Poll reads the changed files of the lists in use. It does nothing if the last read
// was seconds ago or is in progress.
func (l *Lists) Poll(ctx context.Context) {
	if !l.reading.TryLock() {
		return
	}
	defer l.reading.Unlock()
	if time.Since(l.lastRead) >= pollInterval {
		l.readAll(ctx)
	}
}

// List returns the list of the patterns as of the last read. It reads the files only if
// the list was not used within the last hour.
func (l *Lists) List(patterns []string) *List {
	if list := l.use(patterns); list != nil {
		return list
	}
	l.Read(context.Background(), patterns)
	return l.use(patterns)
}

// use marks the list of the patterns as used and returns it, nil before the first read.
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
	used.usedAt = time.Now()
	return used.list
}

// inUse drops the lists that were not used recently and returns the others.
func (l *Lists) inUse(now time.Time) []*usedList {
	l.mu.Lock()
	defer l.mu.Unlock()
	var used []*usedList
	for key, u := range l.lists {
		if now.Sub(u.usedAt) > unusedLists {
			delete(l.lists, key)
			continue
		}
		used = append(used, u)
	}
	return used
}

// readAll updates every list in use. The reading lock is held.
func (l *Lists) readAll(ctx context.Context) {
	l.lastRead = time.Now()
	used := l.inUse(l.lastRead)
	bounded, cancel := context.WithTimeoutCause(ctx, listsTimeout, fmt.Errorf("not read within %s: check its file system", listsTimeout))
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

// update replaces a list if its files have changed.
func (l *Lists) update(u *usedList, files []*listFile) {
	last := u.list
	if last != nil && slices.Equal(last.files, files) {
		return
	}
	list := mergeFiles(files, last)
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

// mergeFiles merges files into a list. Last is the previous list, or nil.
func mergeFiles(files []*listFile, last *List) *List {
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

// Summary returns the first mistakes in one line. It is empty if there are none.
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

// current returns the current state of the file: f itself if the content did not
// change. F is nil if the file was not read before.
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

// failed returns the state of a file that cannot be read: f itself if it failed before
// for the same reason.
func (f *listFile) failed(path string, err error) *listFile {
	failed := &listFile{mistakes: []collector.Mistake{{File: path, Message: readfile.Reason(err)}}}
	if f != nil && f.info == nil && slices.Equal(f.mistakes, failed.mistakes) {
		return f
	}
	return failed
}

// unchanged reports whether the file can be assumed unchanged without reading it.
func (f *listFile) unchanged(info fs.FileInfo, now time.Time) bool {
	return f != nil && f.info != nil && os.SameFile(f.info, info) &&
		f.info.Size() == info.Size() && f.info.ModTime().Equal(info.ModTime()) &&
		f.readAt.Sub(info.ModTime()) > mtimeGranularity && now.Sub(f.readAt) < rereadInterval
}

// inParallel calls do for every entry, up to parallelReads at a time.
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
