package lensmesh

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/health" // checks the health of replicas where WithHealthCheck asks for it
	"google.golang.org/grpc/keepalive"
)

// DefaultTimeout is what a unary call gets that has no deadline of its own.
const DefaultTimeout = 60 * time.Second

// DefaultMaxMessageBytes is the largest message that is sent or read, as the services' own default.
const DefaultMaxMessageBytes = 32 << 20

type config struct {
	credentials     credentials.TransportCredentials
	timeout         time.Duration
	maxMessageBytes int
	healthCheck     string
	authority       string
	more            []grpc.DialOption
	err             error
}

// Option changes how Dial connects.
type Option func(*config)

// WithTLS encrypts the connection; with certificates in the configuration it is mutual.
func WithTLS(tlsConfig *tls.Config) Option {
	return func(c *config) { c.credentials = credentials.NewTLS(tlsConfig) }
}

// WithTLSFiles encrypts the connection. The server's certificate must be signed by one of the authorities in caFile;
// "" means the system's. With certFile and keyFile the client shows a certificate of its own; both are read again for
// each connection, so that renewed ones are used. Dial returns the error of files that cannot be read.
func WithTLSFiles(caFile, certFile, keyFile string) Option {
	return func(c *config) {
		tlsConfig, err := tlsOfFiles(caFile, certFile, keyFile)
		c.credentials, c.err = credentials.NewTLS(tlsConfig), err
	}
}

// WithTimeout sets the time that a unary call gets which has no deadline of its own; 0 sets no limit.
func WithTimeout(timeout time.Duration) Option {
	return func(c *config) { c.timeout = timeout }
}

// WithMaxMessageBytes sets the largest message that is sent or read.
func WithMaxMessageBytes(most int) Option {
	return func(c *config) { c.maxMessageBytes = most }
}

// WithHealthCheck uses only replicas whose grpc.health.v1 status of this service is SERVING:
// "lensmesh.router.v1.RouterService", say. Without it, all replicas are used.
func WithHealthCheck(service string) Option {
	return func(c *config) { c.healthCheck = service }
}

// WithAuthority sets the name that the server's certificate is made for, where the target is another one.
func WithAuthority(name string) Option {
	return func(c *config) { c.authority = name }
}

// WithDialOptions adds options of gRPC: interceptors and statistics handlers for traces, say.
func WithDialOptions(options ...grpc.DialOption) Option {
	return func(c *config) { c.more = append(c.more, options...) }
}

// options returns what gRPC is told: the counterpart of what the services allow.
func (c *config) options() []grpc.DialOption {
	// The services let a quarter more than their limit pass, so that a message a little too large gets an answer.
	limit := c.maxMessageBytes + c.maxMessageBytes/4
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(c.credentials),
		grpc.WithDefaultServiceConfig(serviceConfig(c.healthCheck)),
		// A TXT record of the name must not change how calls are made.
		grpc.WithDisableServiceConfig(),
		grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(limit),
			grpc.MaxCallSendMsgSize(limit),
			// gRPC gives up repeating a request that does not fit; its default is 256 KiB.
			grpc.MaxRetryRPCBufferSize(limit+64<<10),
		),
		// The services end connections that ping more often than every ten seconds.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: 20 * time.Second, Timeout: 10 * time.Second, PermitWithoutStream: true,
		}),
		// A replica that comes back is found within seconds, not after gRPC's two minutes of back-off.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
		grpc.WithChainUnaryInterceptor(c.unary),
		grpc.WithChainStreamInterceptor(streaming),
	}
	if c.authority != "" {
		options = append(options, grpc.WithAuthority(c.authority))
	}
	return append(options, c.more...)
}

// Dial makes a client of the Router at target: "host:port", or any name that gRPC resolves. Calls go round robin over
// all addresses of a name. The connection is opened by the first call. Without options it is not encrypted.
func Dial(target string, options ...Option) (*Client, error) {
	c := &config{
		credentials: insecure.NewCredentials(), timeout: DefaultTimeout, maxMessageBytes: DefaultMaxMessageBytes,
	}
	for _, option := range options {
		option(c)
	}
	switch {
	case target == "":
		return nil, invalid(ReasonOptionInvalid, "target", "target is empty: name a host:port")
	case c.err != nil:
		return nil, c.err
	case c.timeout < 0:
		return nil, invalid(ReasonOptionInvalid, "timeout", "timeout is %s: give 0 or more", c.timeout)
	case c.maxMessageBytes < 64<<10 || c.maxMessageBytes > 1<<30:
		return nil, invalid(ReasonOptionInvalid, "max_message_bytes",
			"max_message_bytes is %d: give 64 KiB to 1 GiB", c.maxMessageBytes)
	}
	connection, err := grpc.NewClient(target, c.options()...)
	if err != nil {
		return nil, invalid(ReasonOptionInvalid, "target", "no connection can be made to %q: %v", target, err)
	}
	return newClient(connection, c.maxMessageBytes), nil
}

func tlsOfFiles(caFile, certFile, keyFile string) (*tls.Config, error) {
	made := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile != "" {
		content, err := os.ReadFile(caFile)
		if err != nil {
			return made, invalid(ReasonOptionInvalid, "ca_file", "the authorities cannot be read: %v", err)
		}
		made.RootCAs = x509.NewCertPool()
		if !made.RootCAs.AppendCertsFromPEM(content) {
			return made, invalid(ReasonOptionInvalid, "ca_file", "%s holds no PEM certificate", caFile)
		}
	}
	if certFile == "" && keyFile == "" {
		return made, nil
	}
	load := func() (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(certFile, keyFile)
		return &pair, err
	}
	if _, err := load(); err != nil {
		return made, invalid(ReasonOptionInvalid, "cert_file", "the certificate and its key cannot be used: %v", err)
	}
	made.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	return made, nil
}
