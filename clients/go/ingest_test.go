package lensmesh_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	lensmesh "lensmesh/clients/go"
	commonv1 "lensmesh/clients/go/gen/common/v1"
	routerv1 "lensmesh/clients/go/gen/router/v1"
)

// images returns items "image 0", "image 1" and so on, with the number as Ref.
func images(count int) iter.Seq[lensmesh.Item] {
	return func(yield func(lensmesh.Item) bool) {
		for i := range count {
			if !yield(lensmesh.Item{Ref: strconv.Itoa(i), Image: fmt.Appendf(nil, "image %d", i)}) {
				return
			}
		}
	}
}

// ingest returns every result by Ref, each of which must come once, and the error at the end.
func ingest(
	t *testing.T, client *lensmesh.Client, items iter.Seq[lensmesh.Item], config lensmesh.IngestConfig,
) (map[string]lensmesh.IngestResult, error) {
	t.Helper()
	results := map[string]lensmesh.IngestResult{}
	for result, err := range client.Ingest(t.Context(), items, config) {
		if err != nil {
			return results, err
		}
		if _, twice := results[result.Ref]; twice {
			t.Errorf("%s has two results", result.Ref)
		}
		results[result.Ref] = result
	}
	return results, nil
}

// all fails the test unless so many results are there and none is an error.
func all(t *testing.T, results map[string]lensmesh.IngestResult, err error, count int) {
	t.Helper()
	if err != nil || len(results) != count {
		t.Fatalf("%d results of %d, and %v", len(results), count, err)
	}
	for ref, result := range results {
		if result.Err != nil || result.Item == nil {
			t.Errorf("%s: %v", ref, result.Err)
		}
	}
}

func TestEachItemHasOneResultAndItsDigestAsID(t *testing.T) {
	fake := &fakeRouter{limits: &commonv1.Limits{MaxItems: 7, MaxMessageBytes: 1 << 20}}
	var last lensmesh.Progress
	results, err := ingest(t, fake.start(t), images(100), lensmesh.IngestConfig{
		Options:    &routerv1.IngestOptions{Collection: "boats"},
		OnProgress: func(progress lensmesh.Progress) { last = progress },
	})
	all(t, results, err, 100)
	for ref, result := range results {
		if strconv.Itoa(result.Index) != ref || len(result.Item.GetId()) != 64 {
			t.Errorf("%s: %+v", ref, result)
		}
	}
	if len(fake.options) != 1 || fake.options[0].GetCollection() != "boats" || slices.Max(fake.messages) > 7 {
		t.Errorf("options %v, messages %v", fake.options, fake.messages)
	}
	if last.Done != 100 || last.Failed != 0 || last.Bytes != 790 || last.Resumed != 0 {
		t.Errorf("%+v", last)
	}
}

func TestStreamsThatBreakDrainOrEndAreResumed(t *testing.T) {
	faults := map[string]func(*fakeRouter){
		"cut":     func(f *fakeRouter) { f.cutAfter = []int{5, 0, 20} },
		"drained": func(f *fakeRouter) { f.drainAfter = []int{5, 0, 20} },
		"ended":   func(f *fakeRouter) { f.endAfter = []int{5, 0, 20} },
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fake := &fakeRouter{}
			fault(fake)
			var waiting []int
			results, err := ingest(t, fake.start(t), images(60), lensmesh.IngestConfig{
				Options:  &routerv1.IngestOptions{Collection: "boats"},
				OnResume: func(_ *lensmesh.Error, items int) { waiting = append(waiting, items) },
			})
			all(t, results, err, 60)
			if fake.streams < 4 || len(waiting) < 3 || waiting[0] == 0 || len(fake.options) != fake.streams {
				t.Errorf("%d streams, %v waited, options %d times", fake.streams, waiting, len(fake.options))
			}
		})
	}
}

func TestAnItemThatIsRefusedForTheMomentIsSentAgain(t *testing.T) {
	fake := &fakeRouter{busy: map[string]int{"image 1": 2, "image 2": 1000}}
	results, err := ingest(t, fake.start(t), images(4), lensmesh.IngestConfig{Attempts: 4})
	if err != nil || len(results) != 4 {
		t.Fatal(results, err)
	}
	var busy *lensmesh.Error
	if results["1"].Err != nil || !errors.As(results["2"].Err, &busy) {
		t.Fatal(results)
	}
	if busy.Reason != lensmesh.ReasonOverloaded || !busy.Retryable || busy.RetryDelay != 10*time.Millisecond ||
		fake.busy["image 2"] != 996 {
		t.Errorf("%+v after %d", busy, fake.busy["image 2"])
	}
}

func TestAnItemThatEndsStreamsIsGivenUpAlone(t *testing.T) {
	ends := map[string]error{
		"malformed":   refused(codes.InvalidArgument, lensmesh.ReasonMessageMalformed, "nested too deep"),
		"too large":   refused(codes.ResourceExhausted, lensmesh.ReasonMessageTooLarge, "too large"),
		"unexplained": status.Error(codes.Unavailable, "Socket closed"),
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fake := &fakeRouter{ends: map[string]error{"image 33": end}}
			results, err := ingest(t, fake.start(t), images(40), lensmesh.IngestConfig{})
			if err != nil || len(results) != 40 {
				t.Fatalf("%d results, %v", len(results), err)
			}
			for ref, result := range results {
				if (result.Err != nil) != (ref == "33") {
					t.Errorf("%s: %v", ref, result.Err)
				}
			}
			if text := results["33"].Err.Error(); !strings.Contains(text, "given up") {
				t.Error(text)
			}
		})
	}
}

func TestABadItemFailsAlone(t *testing.T) {
	fake := &fakeRouter{
		limits: &commonv1.Limits{MaxMessageBytes: 1 << 20, MaxImageBytes: 2 << 20},
		unread: map[string]bool{"no image": true},
	}
	itself := map[string]any{}
	itself["inner"] = itself
	good := []byte("image")
	bad := map[lensmesh.Reason]lensmesh.Item{
		lensmesh.ReasonImageUndecodable: {Image: []byte("no image")},
		lensmesh.ReasonImageEmpty:       {},
		lensmesh.ReasonImageMissing:     lensmesh.File(filepath.Join(t.TempDir(), "none.png")),
		lensmesh.ReasonImageTooLarge:    {Image: make([]byte, 2<<20+1)},
		lensmesh.ReasonMessageTooLarge:  {Image: make([]byte, 1<<20)},
		lensmesh.ReasonMetadataInvalid:  {Image: good, Metadata: itself},
		lensmesh.ReasonTextInvalid:      {Image: good, Caption: "\xff"},
		lensmesh.ReasonItemIDInvalid:    {Image: good, ID: "\xff"},
	}
	items := func(yield func(lensmesh.Item) bool) {
		for reason, item := range bad {
			item.Ref = string(reason)
			if !yield(item) {
				return
			}
		}
		yield(lensmesh.Item{Ref: "good", Image: good, Metadata: map[string]any{"year": 1870, "tags": []any{"a", nil}}})
	}
	results, err := ingest(t, fake.start(t), items, lensmesh.IngestConfig{})
	if err != nil || len(results) != len(bad)+1 || results["good"].Err != nil {
		t.Fatal(results, err)
	}
	for reason := range bad {
		if got := lensmesh.ReasonOf(results[string(reason)].Err); got != reason {
			t.Errorf("%s instead of %s", got, reason)
		}
	}
	if !errors.Is(results[string(lensmesh.ReasonImageMissing)].Err, os.ErrNotExist) {
		t.Error("a file that is not there is told as one")
	}
}

func TestNoMoreIsReadThanTheWindowHolds(t *testing.T) {
	for name, config := range map[string]lensmesh.IngestConfig{
		"items": {WindowItems: 10}, "bytes": {WindowBytes: 10 * 1100},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fake := &fakeRouter{hold: make(chan struct{})}
			var read atomic.Int32
			items := func(yield func(lensmesh.Item) bool) {
				for i := range 50 {
					read.Add(1)
					if !yield(lensmesh.Item{Ref: strconv.Itoa(i), Image: fmt.Appendf(nil, "%1000d", i)}) {
						return
					}
				}
			}
			client := fake.start(t)
			go func() {
				fake.until(t, "the window is full", func() bool { return read.Load() == 11 })
				close(fake.hold)
			}()
			most := int32(0)
			done := int32(0)
			for _, err := range client.Ingest(t.Context(), items, config) {
				if err != nil {
					t.Fatal(err)
				}
				// One more is in the hand of the reader, and the one that is given out is out of the window.
				most = max(most, read.Load()-done)
				done++
			}
			if done != 50 || most > 12 {
				t.Errorf("%d done, up to %d read ahead", done, most)
			}
		})
	}
}

func TestItemsOfOneIDAreStoredInOrder(t *testing.T) {
	fake := &fakeRouter{busy: map[string]int{"first": 1}}
	items := slices.Values([]lensmesh.Item{
		{Ref: "1", ID: "one", Image: []byte("first")}, {Ref: "2", ID: "one", Image: []byte("second")},
	})
	results, err := ingest(t, fake.start(t), items, lensmesh.IngestConfig{})
	all(t, results, err, 2)
	if !slices.Equal(fake.contents, []string{"first", "second"}) {
		t.Error(fake.contents)
	}
}

func TestARefusalOfTheWholeEndsIt(t *testing.T) {
	fake := &fakeRouter{refusal: refused(codes.FailedPrecondition, lensmesh.ReasonSpaceMismatch, "another space")}
	_, err := ingest(t, fake.start(t), images(3), lensmesh.IngestConfig{})
	if lensmesh.ReasonOf(err) != lensmesh.ReasonSpaceMismatch || fake.streams != 1 {
		t.Error(err, fake.streams)
	}
}

func TestPatienceEnds(t *testing.T) {
	t.Parallel()
	fake := &fakeRouter{refusal: refused(codes.Unavailable, lensmesh.ReasonSearchUnavailable, "no store")}
	_, err := ingest(t, fake.start(t), images(3), lensmesh.IngestConfig{Patience: 200 * time.Millisecond})
	if lensmesh.ReasonOf(err) != lensmesh.ReasonSearchUnavailable || fake.streams < 2 {
		t.Error(err, fake.streams)
	}
}

func TestAContextThatEndsEndsTheIngest(t *testing.T) {
	fake := &fakeRouter{hold: make(chan struct{})}
	client := fake.start(t)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		fake.until(t, "items are under way", func() bool { return len(fake.messages) > 0 })
		cancel()
	}()
	var last error
	for _, err := range client.Ingest(ctx, images(1000), lensmesh.IngestConfig{}) {
		last = err
	}
	if !errors.Is(last, context.Canceled) || lensmesh.ReasonOf(last) != lensmesh.ReasonCancelled {
		t.Error(last)
	}
	fake.until(t, "the server's stream has ended", func() bool { return fake.open == 0 })
}

func TestWhoLeavesTheLoopEndsTheIngest(t *testing.T) {
	fake := &fakeRouter{}
	client := fake.start(t)
	for range client.Ingest(t.Context(), images(1_000_000), lensmesh.IngestConfig{}) {
		break
	}
	fake.until(t, "the server's stream has ended", func() bool { return fake.streams == 1 && fake.open == 0 })
	if client.Close() != nil {
		t.Error("the client does not close")
	}
	_, err := ingest(t, client, images(1), lensmesh.IngestConfig{})
	if lensmesh.ReasonOf(err) != lensmesh.ReasonClientUnusable {
		t.Error(err)
	}
}

func TestAPanicOfTheInputIsTheCallers(t *testing.T) {
	fake := &fakeRouter{}
	items := func(yield func(lensmesh.Item) bool) {
		yield(lensmesh.Item{Image: []byte("one")})
		panic("of the input")
	}
	defer func() {
		if recover() != "of the input" || len(fake.stored) != 1 {
			t.Error("the panic is lost, or the item before it")
		}
	}()
	_, _ = ingest(t, fake.start(t), items, lensmesh.IngestConfig{})
}

func TestNothingToIngestAndImpossibleWindows(t *testing.T) {
	client := (&fakeRouter{}).start(t)
	results, err := ingest(t, client, images(0), lensmesh.IngestConfig{})
	all(t, results, err, 0)
	for _, config := range []lensmesh.IngestConfig{{WindowItems: -1}, {WindowItems: 1 << 30}, {Patience: -1}} {
		if _, err := ingest(t, client, images(1), config); lensmesh.ReasonOf(err) != lensmesh.ReasonOptionInvalid {
			t.Error(err)
		}
	}
}

func TestAFolderIsReadWithTheFoldersInIt(t *testing.T) {
	root := t.TempDir()
	for _, name := range []string{"b.PNG", "a.jpg", "notes.txt", "inner/c.webp"} {
		path := filepath.Join(root, name)
		if os.MkdirAll(filepath.Dir(path), 0o755) != nil || os.WriteFile(path, []byte(name), 0o600) != nil {
			t.Fatal("the folder cannot be made")
		}
	}
	results, err := ingest(t, (&fakeRouter{}).start(t), lensmesh.Folder(root), lensmesh.IngestConfig{})
	all(t, results, err, 3)
	if _, there := results[filepath.Join(root, "inner", "c.webp")]; !there {
		t.Error(results)
	}
	missing, err := ingest(t, (&fakeRouter{}).start(t), lensmesh.Folder(root+"/none"), lensmesh.IngestConfig{})
	if err != nil || len(missing) != 1 || lensmesh.ReasonOf(missing[root+"/none"].Err) != lensmesh.ReasonImageMissing {
		t.Error(missing, err)
	}
}
