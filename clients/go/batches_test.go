package lensmesh_test

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	lensmesh "lensmesh/clients/go"
	commonv1 "lensmesh/clients/go/gen/common/v1"
	routerv1 "lensmesh/clients/go/gen/router/v1"
)

func TestTextsAreCutByItemsAndAnsweredInOrder(t *testing.T) {
	fake := &fakeRouter{limits: &commonv1.Limits{MaxItems: 10, MaxMessageBytes: 1 << 20}, unread: map[string]bool{"aaa": true}}
	var texts []string
	for i := range 95 {
		texts = append(texts, strings.Repeat("a", i))
	}
	texts[50] = "\xff"
	answers, err := fake.start(t).EncodeTexts(t.Context(), texts, nil)
	if err != nil || len(answers) != 95 {
		t.Fatal(err)
	}
	bad := []int{0, 3, 50}
	for i, answer := range answers {
		if (answer.Err != nil) != slices.Contains(bad, i) {
			t.Errorf("%d: %v", i, answer.Err)
		} else if answer.Err == nil {
			numbers, err := lensmesh.Floats(answer.Value.GetEmbedding())
			if err != nil || !slices.Equal(numbers, []float32{float32(i)}) {
				t.Errorf("%d: %v %v", i, numbers, err)
			}
		}
	}
	if lensmesh.ReasonOf(answers[50].Err) != lensmesh.ReasonTextInvalid {
		t.Error(answers[50].Err)
	}
	slices.Sort(fake.batches)
	if !slices.Equal(fake.batches, []int{4, 10, 10, 10, 10, 10, 10, 10, 10, 10}) {
		t.Error(fake.batches)
	}
}

func TestImagesAreCutByBytesAndTooLargeOnesAreNotSent(t *testing.T) {
	fake := &fakeRouter{limits: &commonv1.Limits{MaxMessageBytes: 100 << 10, MaxImageBytes: 200 << 10}}
	client := fake.start(t)
	images := [][]byte{make([]byte, 40<<10), make([]byte, 40<<10), make([]byte, 40<<10), make([]byte, 150<<10), make([]byte, 201<<10)}
	answers, err := client.EncodeImages(t.Context(), images, nil)
	if err != nil || answers[0].Err != nil || answers[2].Err != nil {
		t.Fatal(answers, err)
	}
	if lensmesh.ReasonOf(answers[3].Err) != lensmesh.ReasonMessageTooLarge ||
		lensmesh.ReasonOf(answers[4].Err) != lensmesh.ReasonImageTooLarge {
		t.Error(answers[3].Err, answers[4].Err)
	}
	captions, err := client.Caption(t.Context(), [][]byte{[]byte("a cat")}, nil)
	if err != nil || captions[0].Value.GetText() != "of a cat" {
		t.Error(captions, err)
	}
	slices.Sort(fake.batches)
	if !slices.Equal(fake.batches, []int{1, 1, 2}) {
		t.Error(fake.batches)
	}
	if answers, err := client.EncodeImages(t.Context(), nil, nil); err != nil || len(answers) != 0 {
		t.Error(answers, err)
	}
}

func TestABatchWaitsOutOverload(t *testing.T) {
	fake := &fakeRouter{failures: []error{overloaded(), overloaded()}}
	client := fake.start(t)
	answers, err := client.EncodeTexts(t.Context(), []string{"a"}, nil)
	if err != nil || answers[0].Err != nil || fake.calls != 3 {
		t.Error(answers, err, fake.calls)
	}
	fake.failures = slices.Repeat([]error{overloaded()}, 10)
	_, err = client.EncodeTexts(t.Context(), []string{"a"}, nil)
	if lensmesh.ReasonOf(err) != lensmesh.ReasonOverloaded || len(fake.failures) != 4 {
		t.Error(err, len(fake.failures))
	}
}

func TestAFailedCallEndsTheBatch(t *testing.T) {
	fake := &fakeRouter{limits: &commonv1.Limits{MaxItems: 1}, hold: make(chan struct{})}
	fake.failures = []error{refused(codes.FailedPrecondition, lensmesh.ReasonSpaceNotServed, "no such space")}
	_, err := fake.start(t).EncodeTexts(t.Context(), slices.Repeat([]string{"a"}, 20), nil)
	if lensmesh.ReasonOf(err) != lensmesh.ReasonSpaceNotServed {
		t.Error(err)
	}
}

func TestABatchEndsWithItsContext(t *testing.T) {
	fake := &fakeRouter{hold: make(chan struct{})}
	client := fake.start(t)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		fake.until(t, "the call has arrived", func() bool { return fake.calls > 0 })
		cancel()
	}()
	_, err := client.EncodeTexts(ctx, []string{"a"}, nil)
	if !errors.Is(err, context.Canceled) || status.Code(err) != codes.Canceled {
		t.Error(err)
	}
}

func TestSearchesAreMadeAloneAndTogether(t *testing.T) {
	fake := &fakeRouter{limits: &commonv1.Limits{MaxItems: 2}}
	client := fake.start(t)
	found, err := client.Find(t.Context(), "", 3, lensmesh.TextQuery("boats"))
	if err != nil || found.GetHits()[0].GetItem().GetId() != "boats" {
		t.Error(found, err)
	}
	if _, err := client.Find(t.Context(), "", -1); lensmesh.ReasonOf(err) != lensmesh.ReasonLimitOutOfRange {
		t.Error(err)
	}
	one := &routerv1.SearchRequest{Queries: []*routerv1.Query{lensmesh.ItemQuery("x"), lensmesh.WordsQuery("y")}}
	answers, err := client.FindMany(t.Context(), []*routerv1.SearchRequest{one, {}, one})
	if err != nil || answers[0].Value == nil || answers[2].Value == nil ||
		lensmesh.ReasonOf(answers[1].Err) != lensmesh.ReasonQueryInvalid {
		t.Error(answers, err)
	}
}

func TestVectorsOfBothTypesAreRead(t *testing.T) {
	half := &commonv1.Embedding{
		DataType: commonv1.DataType_DATA_TYPE_FLOAT16, Dimension: 5,
		Data: []byte{0x00, 0x3c, 0x00, 0xc0, 0x01, 0x00, 0xff, 0x7b, 0x00, 0x00},
	}
	numbers, err := lensmesh.Floats(half)
	if err != nil || !slices.Equal(numbers, []float32{1, -2, float32(math.Ldexp(1, -24)), 65504, 0}) {
		t.Error(numbers, err)
	}
	single := &commonv1.Embedding{
		DataType: commonv1.DataType_DATA_TYPE_FLOAT32, Dimension: 2, Data: []byte{0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0},
	}
	if numbers, err := lensmesh.Floats(single); err != nil || !slices.Equal(numbers, []float32{1, -2}) {
		t.Error(numbers, err)
	}
	single.Dimension = 3
	for _, bad := range []*commonv1.Embedding{single, nil, {}, {Dimension: 1, Data: []byte{1, 2}}} {
		if _, err := lensmesh.Floats(bad); lensmesh.ReasonOf(err) != lensmesh.ReasonVectorInvalid {
			t.Error(bad, err)
		}
	}
}
