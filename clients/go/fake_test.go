package lensmesh_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	lensmesh "lensmesh/clients/go"
	captionv1 "lensmesh/clients/go/gen/caption/v1"
	commonv1 "lensmesh/clients/go/gen/common/v1"
	encoderv1 "lensmesh/clients/go/gen/encoder/v1"
	routerv1 "lensmesh/clients/go/gen/router/v1"
	searchv1 "lensmesh/clients/go/gen/search/v1"
)

// fakeRouter is a router without a mesh behind it: real gRPC on a free port, faults set as fields.
type fakeRouter struct {
	routerv1.UnimplementedRouterServiceServer

	mu     sync.Mutex
	limits *commonv1.Limits
	// Errors of the next unary calls (GetStatus apart), and the end of every stream.
	failures []error
	refusal  error
	// Items answered before each stream in turn is cut off, drained, or ended in good order; -1 holds.
	cutAfter, drainAfter, endAfter []int
	// By content: images that end a stream with a status, are no images, or are refused so many times.
	ends   map[string]error
	unread map[string]bool
	busy   map[string]int
	// Nothing is answered before it is closed.
	hold chan struct{}

	// What it saw.
	calls    int
	batches  []int
	streams  int
	open     int
	options  []*routerv1.IngestOptions
	messages []int
	stored   []string
	contents []string
	received int
}

type fakeEncoder struct {
	encoderv1.UnimplementedEncoderServiceServer
	router *fakeRouter
}

type fakeCaptioner struct {
	captionv1.UnimplementedCaptionerServiceServer
	router *fakeRouter
}

// start serves it and returns a client. Both end with the test.
func (f *fakeRouter) start(t *testing.T, options ...lensmesh.Option) *lensmesh.Client {
	t.Helper()
	return dial(t, f.serve(t), options...)
}

func dial(t *testing.T, address string, options ...lensmesh.Option) *lensmesh.Client {
	t.Helper()
	client, err := lensmesh.Dial(address, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

func (f *fakeRouter) serve(t *testing.T, options ...grpc.ServerOption) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if f.limits == nil {
		f.limits = &commonv1.Limits{MaxItems: 256, MaxMessageBytes: 32 << 20}
	}
	server := grpc.NewServer(append(options, grpc.MaxRecvMsgSize(40<<20))...)
	routerv1.RegisterRouterServiceServer(server, f)
	encoderv1.RegisterEncoderServiceServer(server, fakeEncoder{router: f})
	captionv1.RegisterCaptionerServiceServer(server, fakeCaptioner{router: f})
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	return listener.Addr().String()
}

// refused returns a status as the services send it.
func refused(code codes.Code, reason lensmesh.Reason, message string, details ...protoadapt.MessageV1) error {
	info := &errdetails.ErrorInfo{Reason: string(reason), Domain: "lensmesh"}
	made, err := status.New(code, message).WithDetails(append([]protoadapt.MessageV1{info}, details...)...)
	if err != nil {
		panic(err)
	}
	return made.Err()
}

func after(delay time.Duration) protoadapt.MessageV1 {
	return &errdetails.RetryInfo{RetryDelay: durationpb.New(delay)}
}

func overloaded() error {
	return refused(codes.ResourceExhausted, lensmesh.ReasonOverloaded, "not now", after(10*time.Millisecond))
}

func (f *fakeRouter) enter(ctx context.Context, inputs int) error {
	_ = grpc.SetTrailer(ctx, metadata.Pairs("x-request-id", "r-1"))
	f.mu.Lock()
	f.calls++
	hold := f.hold
	var failure error
	if len(f.failures) > 0 {
		failure, f.failures = f.failures[0], f.failures[1:]
	} else {
		f.batches = append(f.batches, inputs)
	}
	f.mu.Unlock()
	if failure == nil && hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	}
	return failure
}

func (f *fakeRouter) GetStatus(context.Context, *routerv1.GetStatusRequest) (*routerv1.GetStatusResponse, error) {
	return &routerv1.GetStatusResponse{Limits: f.limits, DefaultCollection: "default"}, nil
}

func (e fakeEncoder) EncodeTexts(ctx context.Context, request *encoderv1.EncodeTextsRequest) (*encoderv1.EncodeTextsResponse, error) {
	if err := e.router.enter(ctx, len(request.GetTexts())); err != nil {
		return nil, err
	}
	answer := &encoderv1.EncodeTextsResponse{}
	for _, text := range request.GetTexts() {
		answer.Results = append(answer.Results, e.router.encoded(text))
	}
	return answer, nil
}

func (e fakeEncoder) EncodeImages(ctx context.Context, request *encoderv1.EncodeImagesRequest) (*encoderv1.EncodeImagesResponse, error) {
	if err := e.router.enter(ctx, len(request.GetImages())); err != nil {
		return nil, err
	}
	answer := &encoderv1.EncodeImagesResponse{}
	for _, image := range request.GetImages() {
		answer.Results = append(answer.Results, e.router.encoded(string(image.GetContent())))
	}
	return answer, nil
}

// encoded returns a vector of one number, the length of the content.
func (f *fakeRouter) encoded(content string) *encoderv1.EncodeResult {
	if content == "" || f.unread[content] {
		failure := status.Convert(refused(codes.InvalidArgument, lensmesh.ReasonTextEmpty, "empty")).Proto()
		return &encoderv1.EncodeResult{Outcome: &encoderv1.EncodeResult_Error{Error: failure}}
	}
	return &encoderv1.EncodeResult{Outcome: &encoderv1.EncodeResult_Embedding{
		Embedding: &commonv1.Embedding{Dimension: 1, Floats: []float32{float32(len(content))}}}}
}

func (c fakeCaptioner) CaptionImages(ctx context.Context, request *captionv1.CaptionImagesRequest) (*captionv1.CaptionImagesResponse, error) {
	if err := c.router.enter(ctx, len(request.GetImages())); err != nil {
		return nil, err
	}
	answer := &captionv1.CaptionImagesResponse{}
	for _, image := range request.GetImages() {
		answer.Results = append(answer.Results, &captionv1.CaptionResult{
			Outcome: &captionv1.CaptionResult_Caption{Caption: &commonv1.Caption{Text: "of " + string(image.GetContent())}}})
	}
	return answer, nil
}

func (f *fakeRouter) Search(ctx context.Context, request *routerv1.SearchRequest) (*routerv1.SearchResponse, error) {
	if err := f.enter(ctx, len(request.GetQueries())); err != nil {
		return nil, err
	}
	hit := &searchv1.Hit{Item: &searchv1.Item{Id: request.GetQueries()[0].GetText()}, Score: 0.5}
	return &routerv1.SearchResponse{Hits: []*searchv1.Hit{hit}}, nil
}

func (f *fakeRouter) BatchSearch(ctx context.Context, request *routerv1.BatchSearchRequest) (*routerv1.BatchSearchResponse, error) {
	if err := f.enter(ctx, len(request.GetSearches())); err != nil {
		return nil, err
	}
	answer := &routerv1.BatchSearchResponse{}
	for _, search := range request.GetSearches() {
		one := &routerv1.BatchSearchResult{}
		if len(search.GetQueries()) == 0 {
			failure := status.Convert(refused(codes.InvalidArgument, lensmesh.ReasonQueryInvalid, "no query")).Proto()
			one.Outcome = &routerv1.BatchSearchResult_Error{Error: failure}
		} else {
			one.Outcome = &routerv1.BatchSearchResult_Response{Response: &routerv1.SearchResponse{}}
		}
		answer.Results = append(answer.Results, one)
	}
	return answer, nil
}

func pop(faults *[]int) int {
	if len(*faults) == 0 {
		return -1
	}
	first := (*faults)[0]
	*faults = (*faults)[1:]
	return first
}

func (f *fakeRouter) IngestStream(stream grpc.BidiStreamingServer[routerv1.IngestStreamRequest, routerv1.IngestStreamResponse]) error {
	f.mu.Lock()
	cut, drain, end := pop(&f.cutAfter), pop(&f.drainAfter), pop(&f.endAfter)
	f.streams++
	f.open++
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.open--
		f.mu.Unlock()
	}()
	answered := 0
	for {
		request, err := stream.Recv()
		if err != nil {
			return nil
		}
		f.see(request)
		if len(request.GetItems()) > 0 && f.hold != nil {
			select {
			case <-f.hold:
			case <-stream.Context().Done():
				return nil
			}
		}
		if f.refusal != nil {
			return f.refusal
		}
		for _, item := range request.GetItems() {
			if err := f.ends[string(item.GetImage().GetContent())]; err != nil {
				return err
			}
			switch answered {
			case drain:
				return refused(codes.Unavailable, lensmesh.ReasonDraining, "the router drains", after(time.Millisecond))
			case end:
				return nil
			}
			result := f.store(item)
			if answered == cut {
				// What was stored has lost its answer.
				return status.Error(codes.Unavailable, "Socket closed")
			}
			answered++
			if err := stream.Send(&routerv1.IngestStreamResponse{Results: []*routerv1.IngestResult{result}}); err != nil {
				return err
			}
		}
	}
}

func (f *fakeRouter) see(request *routerv1.IngestStreamRequest) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.received += proto.Size(request)
	if request.GetOptions() != nil {
		f.options = append(f.options, request.GetOptions())
	}
	if count := len(request.GetItems()); count > 0 {
		f.messages = append(f.messages, count)
	}
}

func (f *fakeRouter) store(item *routerv1.IngestItem) *routerv1.IngestResult {
	f.mu.Lock()
	defer f.mu.Unlock()
	content := string(item.GetImage().GetContent())
	var failure error
	digest := sha256.Sum256([]byte(content))
	switch {
	case f.busy[content] > 0:
		f.busy[content]--
		failure = overloaded()
	case f.unread[content]:
		failure = refused(codes.InvalidArgument, lensmesh.ReasonImageUndecodable, "no image",
			&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "image", Description: "none"}}})
	case !slices.Equal(digest[:], item.GetContentDigest()):
		failure = refused(codes.InvalidArgument, lensmesh.ReasonDigestMismatch, "another digest")
	}
	if failure != nil {
		failed := &routerv1.IngestResult_Error{Error: status.Convert(failure).Proto()}
		return &routerv1.IngestResult{Ref: item.GetRef(), Outcome: failed}
	}
	id := item.GetId()
	if id == "" {
		id = hex.EncodeToString(digest[:])
	}
	f.stored = append(f.stored, id)
	f.contents = append(f.contents, content)
	stored := &routerv1.IngestedItem{Id: id, Outcome: searchv1.UpsertOutcome_UPSERT_OUTCOME_CREATED}
	return &routerv1.IngestResult{Ref: item.GetRef(), Outcome: &routerv1.IngestResult_Item{Item: stored}}
}

// until waits until something holds of what the fake saw.
func (f *fakeRouter) until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		f.mu.Lock()
		done := holds()
		f.mu.Unlock()
		if done {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("it never came to this: %s", what)
		}
	}
}
