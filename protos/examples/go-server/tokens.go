package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// errorDomain is google.rpc.ErrorInfo's domain of the whole platform; the reasons are common.v1's ErrorReason.
const errorDomain = "pyairtable.io"

// caller is who a verified token stands for. Tenant and subject come from nowhere else.
type caller struct{ subject, tenant string }

type callerKey struct{}

// callerOf gives the verified caller of the request that is being served.
func callerOf(ctx context.Context) caller {
	who, _ := ctx.Value(callerKey{}).(caller)
	return who
}

// verifier verifies access tokens with the public keys of their issuer.
type verifier struct {
	keys     jose.JSONWebKeySet
	expected jwt.Expected
}

func newVerifier(place place) (*verifier, error) {
	content, err := os.ReadFile(place.jwksFile)
	if err != nil {
		return nil, fmt.Errorf("the issuer's keys: %w", err)
	}
	made := &verifier{expected: jwt.Expected{Issuer: place.issuer, AnyAudience: jwt.Audience{place.audience}}}
	if err := json.Unmarshal(content, &made.keys); err != nil {
		return nil, fmt.Errorf("%s holds no JWKS: %w", place.jwksFile, err)
	}
	return made, nil
}

// caller verifies the token in the metadata of a call: UNAUTHENTICATED, with a reason, where that can't be done.
func (v *verifier) caller(ctx context.Context) (caller, error) {
	values := metadata.ValueFromIncomingContext(ctx, "authorization")
	if len(values) != 1 {
		return caller{}, unauthenticated("TOKEN_MISSING", "the call carries no `authorization: Bearer` token")
	}
	token, isBearer := strings.CutPrefix(values[0], "Bearer ")
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.EdDSA, jose.ES256, jose.RS256})
	if !isBearer || err != nil {
		return caller{}, unauthenticated("TOKEN_INVALID", "the token is not one of ours")
	}
	var claims jwt.Claims
	var own struct {
		Tenant string `json:"tenant"`
	}
	if err := parsed.Claims(v.keys, &claims, &own); err != nil || claims.Expiry == nil || own.Tenant == "" {
		return caller{}, unauthenticated("TOKEN_INVALID", "the token is not one of ours")
	}
	switch err := claims.ValidateWithLeeway(v.expected.WithTime(time.Now()), 0); err {
	case nil:
		return caller{subject: "user:" + claims.Subject, tenant: "tenants/" + own.Tenant}, nil
	case jwt.ErrExpired:
		return caller{}, unauthenticated("TOKEN_EXPIRED", "the token has expired: get a new one and call again")
	default:
		return caller{}, unauthenticated("TOKEN_INVALID", "the token is not one of ours")
	}
}

func unauthenticated(reason, words string) error {
	told := status.New(codes.Unauthenticated, words)
	if detailed, err := told.WithDetails(&errdetails.ErrorInfo{Reason: reason, Domain: errorDomain}); err == nil {
		told = detailed
	}
	return told.Err()
}
