package lensmesh

import (
	"context"
	"sync"

	"google.golang.org/grpc"

	captionv1 "lensmesh/clients/go/gen/caption/v1"
	commonv1 "lensmesh/clients/go/gen/common/v1"
	encoderv1 "lensmesh/clients/go/gen/encoder/v1"
	routerv1 "lensmesh/clients/go/gen/router/v1"
	searchv1 "lensmesh/clients/go/gen/search/v1"
)

// Client is a connection to a Router. Make it with Dial and Close it at the end.
type Client struct {
	connection      *grpc.ClientConn
	maxMessageBytes int

	mu     sync.Mutex
	limits *commonv1.Limits
}

func newClient(connection *grpc.ClientConn, maxMessageBytes int) *Client {
	return &Client{connection: connection, maxMessageBytes: maxMessageBytes}
}

// Close ends the connection and the calls on it.
func (c *Client) Close() error { return c.connection.Close() }

// Router returns the stub of whole jobs. Its errors are of type *Error too, as those of all stubs here.
func (c *Client) Router() routerv1.RouterServiceClient {
	return routerv1.NewRouterServiceClient(c.connection)
}

// Encoder returns the stub of the encoders behind the router.
func (c *Client) Encoder() encoderv1.EncoderServiceClient {
	return encoderv1.NewEncoderServiceClient(c.connection)
}

// Captioner returns the stub of the captioners behind the router.
func (c *Client) Captioner() captionv1.CaptionerServiceClient {
	return captionv1.NewCaptionerServiceClient(c.connection)
}

// Search returns the stub of the collections and items behind the router; Find searches by images and words.
func (c *Client) Search() searchv1.SearchServiceClient {
	return searchv1.NewSearchServiceClient(c.connection)
}

// Status tells every service behind the router: address, health, models, limits.
func (c *Client) Status(ctx context.Context) (*routerv1.GetStatusResponse, error) {
	return c.Router().GetStatus(ctx, &routerv1.GetStatusRequest{})
}

// Limits returns what the router accepts. It is asked once, and by each stream that is opened again.
func (c *Client) Limits(ctx context.Context) (*commonv1.Limits, error) {
	c.mu.Lock()
	known := c.limits
	c.mu.Unlock()
	if known != nil {
		return known, nil
	}
	return c.freshLimits(ctx)
}

func (c *Client) freshLimits(ctx context.Context) (*commonv1.Limits, error) {
	answer, err := c.Status(ctx)
	if err != nil {
		return nil, err
	}
	limits := answer.GetLimits()
	if limits == nil {
		limits = &commonv1.Limits{}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.limits = limits
	return limits, nil
}

// messageBytes returns the largest message that the router takes and that this client sends.
func (c *Client) messageBytes(limits *commonv1.Limits) int {
	if told := limits.GetMaxMessageBytes(); told > 0 && told < uint64(c.maxMessageBytes) {
		return int(told)
	}
	return c.maxMessageBytes
}
