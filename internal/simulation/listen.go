package simulation

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
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// ListenOptions configure how a tenant is served. The zero value serves all
// origins with plain HTTP on one free port of 127.0.0.1.
type ListenOptions struct {
	// Address is the address to listen on. Empty means 127.0.0.1:0. With Separate
	// the port must be 0.
	Address string
	// Separate serves the sign-in endpoint, Graph and the API on different
	// origins.
	Separate bool
	// TLS serves HTTPS, with HTTP/2, and a certificate of a private authority:
	// see Server.CertificateAuthority.
	TLS bool
	// InMemory serves without a network, through Server.Transport only. Tests in
	// a synctest bubble need it, because a socket would block the fake time.
	InMemory bool
}

// Server serves a tenant.
type Server struct {
	// LoginURL, GraphURL and APIURL are the origins, without a path.
	LoginURL, GraphURL, APIURL string
	// CertificateAuthority is the authority to trust, in PEM. Empty without TLS.
	CertificateAuthority []byte

	servers   []*http.Server
	listeners map[string]*memoryListener // by address; only in memory
	cancel    context.CancelFunc
	running   sync.WaitGroup
}

// Listen serves the tenant until the Server is closed.
func (t *Tenant) Listen(o ListenOptions) (*Server, error) {
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{cancel: cancel, listeners: map[string]*memoryListener{}}
	scheme := "http://"
	var config *tls.Config
	if o.TLS {
		certificate, err := newCertificate()
		if err != nil {
			cancel()
			return nil, fmt.Errorf("make a certificate: %w", err)
		}
		scheme = "https://"
		config = &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
		s.CertificateAuthority = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate[0]})
	}
	start := func(handler http.Handler) (string, error) {
		listener, err := s.listen(ctx, o)
		if err != nil {
			return "", err
		}
		server := &http.Server{
			Handler:           handler,
			TLSConfig:         config,
			ReadHeaderTimeout: time.Minute,
			ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), // broken connections are intended
			BaseContext:       func(net.Listener) context.Context { return ctx },
		}
		s.servers = append(s.servers, server)
		s.running.Go(func() {
			if config != nil {
				_ = server.ServeTLS(listener, "", "") // returns after Close
			} else {
				_ = server.Serve(listener)
			}
		})
		return scheme + listener.Addr().String(), nil
	}

	var err error
	if o.Separate {
		var errs [3]error
		s.LoginURL, errs[0] = start(t.LoginHandler())
		s.GraphURL, errs[1] = start(t.GraphHandler())
		s.APIURL, errs[2] = start(t.APIHandler())
		err = errors.Join(errs[:]...)
	} else {
		s.LoginURL, err = start(t)
		s.GraphURL, s.APIURL = s.LoginURL, s.LoginURL
	}
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("serve the simulated tenant: %w", err)
	}
	return s, nil
}

// Close stops serving. It breaks open connections and ends hanging calls.
func (s *Server) Close() {
	s.cancel()
	for _, server := range s.servers {
		_ = server.Close()
	}
	s.running.Wait()
}

// Transport returns a transport that trusts the server and, for a server in
// memory, connects to it. The caller must close its idle connections.
func (s *Server) Transport() *http.Transport {
	transport := &http.Transport{ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 16, IdleConnTimeout: 90 * time.Second}
	if len(s.CertificateAuthority) > 0 {
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(s.CertificateAuthority)
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	if len(s.listeners) > 0 {
		transport.DialContext = s.dial
	}
	return transport
}

func (s *Server) listen(ctx context.Context, o ListenOptions) (net.Listener, error) {
	if o.InMemory {
		l := &memoryListener{
			address: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: len(s.listeners) + 1},
			conns:   make(chan net.Conn),
			closed:  make(chan struct{}),
		}
		s.listeners[l.address.String()] = l
		return l, nil
	}
	address := o.Address
	if address == "" {
		address = "127.0.0.1:0"
	}
	var config net.ListenConfig
	return config.Listen(ctx, "tcp", address)
}

func (s *Server) dial(ctx context.Context, network, address string) (net.Conn, error) {
	l, ok := s.listeners[address]
	if !ok {
		return nil, &net.OpError{Op: "dial", Net: network, Err: fmt.Errorf("%s: no such address in memory", address)}
	}
	clientSide, serverSide := net.Pipe()
	select {
	case l.conns <- serverSide:
		return clientSide, nil
	case <-l.closed:
		return nil, &net.OpError{Op: "dial", Net: network, Err: errors.New("connection refused")}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// memoryListener accepts the server ends of in-memory pipes.
type memoryListener struct {
	address net.Addr
	conns   chan net.Conn
	once    sync.Once
	closed  chan struct{}
}

func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *memoryListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *memoryListener) Addr() net.Addr { return l.address }

// newCertificate returns a self-signed certificate for loopback.
func newCertificate() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "simulated tenant"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(10 * 365 * 24 * time.Hour),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		IsCA:                  true,
		DNSNames:              []string{"localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
