package lensmesh_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	lensmesh "lensmesh/clients/go"
	encoderv1 "lensmesh/clients/go/gen/encoder/v1"
)

func TestCallsAreRepeatedWhereARouterIsGone(t *testing.T) {
	gone, left := status.Error(codes.Unavailable, "Socket closed"), status.Error(codes.Canceled, "CANCELLED")
	for name, failures := range map[string][]error{"unavailable": {gone, gone}, "cancelled": {left}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fake := &fakeRouter{failures: failures}
			if _, err := fake.start(t).Find(t.Context(), "", 0, lensmesh.TextQuery("a")); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("invalid", func(t *testing.T) {
		t.Parallel()
		fake := &fakeRouter{failures: []error{status.Error(codes.InvalidArgument, "no")}}
		if _, err := fake.start(t).Find(t.Context(), "", 0, lensmesh.TextQuery("a")); err == nil || fake.calls != 1 {
			t.Error(err, fake.calls)
		}
	})
}

func TestALargeRequestIsRepeatedToo(t *testing.T) {
	fake := &fakeRouter{failures: []error{status.Error(codes.Unavailable, "Socket closed")}}
	request := &encoderv1.EncodeTextsRequest{Texts: []string{strings.Repeat("a", 2<<20)}}
	if _, err := fake.start(t).Encoder().EncodeTexts(t.Context(), request); err != nil {
		t.Error(err)
	}
}

func TestErrorsAreTyped(t *testing.T) {
	fake := &fakeRouter{}
	client := fake.start(t)
	fake.failures = []error{refused(codes.InvalidArgument, "OF_THE_FUTURE", "wrong", after(time.Second),
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "queries[0]", Description: "why"}}})}
	_, err := client.Find(t.Context(), "", 0, lensmesh.TextQuery("a"))
	var found *lensmesh.Error
	if !errors.As(err, &found) {
		t.Fatal(err)
	}
	if found.Code != codes.InvalidArgument || found.Reason != "OF_THE_FUTURE" || found.Message != "wrong" ||
		found.RetryDelay != time.Second || !found.Retryable || found.RequestID != "r-1" ||
		len(found.Violations) != 1 || found.Violations[0] != (lensmesh.Violation{Field: "queries[0]", Description: "why"}) {
		t.Errorf("%+v", found)
	}
	if status.Code(err) != codes.InvalidArgument || len(status.Convert(err).Details()) != 3 {
		t.Error("the status is not what was sent")
	}
}

func TestAMessageThatGRPCRefusesIsTyped(t *testing.T) {
	client := (&fakeRouter{}).start(t, lensmesh.WithMaxMessageBytes(64<<10))
	request := &encoderv1.EncodeTextsRequest{Texts: []string{strings.Repeat("a", 1<<20)}}
	if _, err := client.Encoder().EncodeTexts(t.Context(), request); lensmesh.ReasonOf(err) != lensmesh.ReasonMessageTooLarge {
		t.Error(err)
	}
}

func TestACallWithoutADeadlineHasTheClients(t *testing.T) {
	fake := &fakeRouter{hold: make(chan struct{})}
	client := fake.start(t, lensmesh.WithTimeout(50*time.Millisecond))
	_, err := client.Find(t.Context(), "", 0, lensmesh.TextQuery("a"))
	if !errors.Is(err, context.DeadlineExceeded) || lensmesh.ReasonOf(err) != lensmesh.ReasonDeadlineExceeded {
		t.Error(err)
	}
}

func TestNobodyThereIsTold(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	_, err = dial(t, listener.Addr().String()).Status(t.Context())
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "no lensmesh router answers at "+listener.Addr().String()) {
		t.Error(err)
	}
}

func TestWrongOptionsAreRefused(t *testing.T) {
	for name, made := range map[string]func() (*lensmesh.Client, error){
		"target":  func() (*lensmesh.Client, error) { return lensmesh.Dial("") },
		"timeout": func() (*lensmesh.Client, error) { return lensmesh.Dial("a:1", lensmesh.WithTimeout(-1)) },
		"bytes":   func() (*lensmesh.Client, error) { return lensmesh.Dial("a:1", lensmesh.WithMaxMessageBytes(1)) },
		"files":   func() (*lensmesh.Client, error) { return lensmesh.Dial("a:1", lensmesh.WithTLSFiles("none", "", "")) },
		"pair": func() (*lensmesh.Client, error) {
			return lensmesh.Dial("a:1", lensmesh.WithTLSFiles("", "none", "none"))
		},
	} {
		if client, err := made(); client != nil || lensmesh.ReasonOf(err) != lensmesh.ReasonOptionInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMutualTLS(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	certificate, authorities := selfSigned(t, folder)
	server := grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{certificate}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: authorities,
	}))
	address := (&fakeRouter{}).serve(t, server)
	cert, key := filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.pem")
	if _, err := dial(t, address, lensmesh.WithTLSFiles(cert, cert, key)).Status(t.Context()); err != nil {
		t.Error(err)
	}
	other := &tls.Config{RootCAs: x509.NewCertPool()}
	if _, err := dial(t, address, lensmesh.WithTLS(other)).Status(t.Context()); lensmesh.ReasonOf(err) != lensmesh.ReasonTLSFailed {
		t.Error(err)
	}
	if _, err := dial(t, address, lensmesh.WithTLSFiles(cert, "", "")).Status(t.Context()); status.Code(err) != codes.Unavailable {
		t.Error(err)
	}
}

// selfSigned writes cert.pem and key.pem for 127.0.0.1 into the folder.
func selfSigned(t *testing.T, folder string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for name, content := range map[string][]byte{
		"cert.pem": cert, "key.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
	} {
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	authorities := x509.NewCertPool()
	authorities.AppendCertsFromPEM(cert)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, authorities
}
