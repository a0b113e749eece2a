package main

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

var ours = place{issuer: "https://issuer.test", audience: "pyairtable"}

type claims struct {
	jwt.Claims
	Tenant string `json:"tenant,omitempty"`
}

func newKey(t *testing.T) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newTestVerifier(t *testing.T, key ed25519.PrivateKey) *verifier {
	t.Helper()
	keys := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "one", Algorithm: "EdDSA", Use: "sig"}}}
	content, err := json.Marshal(keys)
	if err != nil {
		t.Fatal(err)
	}
	at := ours
	at.jwksFile = filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(at.jwksFile, content, 0o600); err != nil {
		t.Fatal(err)
	}
	made, err := newVerifier(at)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func sign(t *testing.T, key ed25519.PrivateKey, stated claims) string {
	t.Helper()
	signer, err := jose.NewSigner(
		jose.SigningKey{Algorithm: jose.EdDSA, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", "one"),
	)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.Signed(signer).Claims(stated).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func goodClaims() claims {
	return claims{jwt.Claims{
		Issuer: ours.issuer, Audience: jwt.Audience{ours.audience}, Subject: "usr1",
		Expiry: jwt.NewNumericDate(time.Now().Add(time.Hour)),
	}, "ten1"}
}

func received(pairs ...string) context.Context {
	return metadata.NewIncomingContext(context.Background(), metadata.Pairs(pairs...))
}

func reasonOf(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, isInfo := detail.(*errdetails.ErrorInfo); isInfo {
			return info.GetReason()
		}
	}
	return ""
}

func TestATokenSaysWhoCalls(t *testing.T) {
	key := newKey(t)
	who, err := newTestVerifier(t, key).caller(received("authorization", "Bearer "+sign(t, key, goodClaims())))
	if want := (caller{"user:usr1", "tenants/ten1"}); err != nil || who != want {
		t.Errorf("got %v, %v, want %v", who, err, want)
	}
}

func TestATokenThatIsNotGoodIsRefusedWithItsReason(t *testing.T) {
	key := newKey(t)
	changed := func(change func(*claims)) string {
		stated := goodClaims()
		change(&stated)
		return "Bearer " + sign(t, key, stated)
	}
	verify := newTestVerifier(t, key)
	for name, each := range map[string]struct{ header, reason string }{
		"expired":  {changed(func(c *claims) { c.Expiry = jwt.NewNumericDate(time.Now().Add(-time.Second)) }), "TOKEN_EXPIRED"},
		"unending": {changed(func(c *claims) { c.Expiry = nil }), "TOKEN_INVALID"},
		"issuer":   {changed(func(c *claims) { c.Issuer = "https://other.test" }), "TOKEN_INVALID"},
		"audience": {changed(func(c *claims) { c.Audience = jwt.Audience{"other"} }), "TOKEN_INVALID"},
		"tenant":   {changed(func(c *claims) { c.Tenant = "" }), "TOKEN_INVALID"},
		"key":      {"Bearer " + sign(t, newKey(t), goodClaims()), "TOKEN_INVALID"},
		"scheme":   {"Basic " + sign(t, key, goodClaims()), "TOKEN_INVALID"},
		"nonsense": {"Bearer nonsense", "TOKEN_INVALID"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := verify.caller(received("authorization", each.header))
			if status.Code(err) != codes.Unauthenticated || reasonOf(err) != each.reason {
				t.Errorf("got %v (%s), want UNAUTHENTICATED (%s)", err, reasonOf(err), each.reason)
			}
		})
	}
	if _, err := verify.caller(received()); reasonOf(err) != "TOKEN_MISSING" {
		t.Errorf("got %v without a token, want TOKEN_MISSING", err)
	}
}

func TestWhatARequestCarriesIsPassedOnAndNothingElse(t *testing.T) {
	ctx := outgoing(received(
		"authorization", "Bearer t", "x-correlation-id", "run-1", "traceparent", "00-1-2-01", "cookie", "secret",
	))
	passed, _ := metadata.FromOutgoingContext(ctx)
	if got := len(passed); got != 3 || passed["x-correlation-id"][0] != "run-1" {
		t.Errorf("passed on %v, want token, correlation id and trace", passed)
	}
	forged, _ := metadata.FromOutgoingContext(outgoing(received("x-correlation-id", "two\nlines")))
	if len(forged) != 0 {
		t.Errorf("passed on %v, want nothing", forged)
	}
}

func TestAnErrorThatIsNoStatusLeavesWithoutItsText(t *testing.T) {
	key := newKey(t)
	calls := &incoming{verify: newTestVerifier(t, key), log: slog.New(slog.DiscardHandler)}
	ctx := received("authorization", "Bearer "+sign(t, key, goodClaims()))
	_, err := calls.unary(ctx, nil, &grpc.UnaryServerInfo{}, func(context.Context, any) (any, error) {
		return nil, errors.New("password=1234")
	})
	if status.Code(err) != codes.Internal || strings.Contains(err.Error(), "1234") {
		t.Errorf("got %v, want INTERNAL without the text", err)
	}
}
