// Command go-client shows how a Go program calls the services of PyAirtable Mesh: found through the mesh or at an
// address, with a token, a deadline and a trace on every call, and with failures that say what is wrong.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

const usage = `usage: go-client [flags] command

  me                          who the token stands for (UserService.GetMe)
  users                       everyone in the tenant, page by page (UserService.ListUsers)
  check RESOURCE PERMISSION   may I? (PermissionService.CheckPermission)
  tail                        what happens in the tenant, live (AuditService.TailAuditEvents)

Prints a JSON object a line. Exit status: 0 well, 1 refused, 2 wrong usage, 3 failed in a way that may pass.

`

// errUsage has been explained to the person already.
var errUsage = errors.New("wrong usage")

// command is what the command line asks for.
type command struct {
	target  string
	repeat  int
	call    call
	calling *outgoing
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := execute(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func execute(ctx context.Context, arguments []string, stdout, stderr io.Writer) int {
	wanted, err := parse(arguments, stdout, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return exitOK
	}
	if err != nil {
		return exitUsage
	}
	if err := wanted.run(ctx); err != nil {
		fmt.Fprintln(stderr, inWords(err))
		return exitCode(err)
	}
	return exitOK
}

func parse(arguments []string, stdout, stderr io.Writer) (*command, error) {
	flags := flag.NewFlagSet("go-client", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, usage)
		flags.PrintDefaults()
	}
	calling := &outgoing{log: slog.New(slog.DiscardHandler)}
	wanted := &command{calling: calling}
	flags.StringVar(&wanted.target, "target", "", "`address` (host:port) or xds:///service; empty finds it in the mesh")
	flags.StringVar(&calling.tokenFile, "token-file", "", "`file` with the access token, read again for each call")
	flags.StringVar(&calling.correlationID, "correlation-id", "", "`id` of these calls in every log; empty makes one")
	flags.DurationVar(&calling.timeout, "timeout", 10*time.Second, "deadline of each call")
	flags.IntVar(&wanted.repeat, "repeat", 0, "call again and again from `n` goroutines until interrupted")
	pageSize := flags.Int("page-size", 0, "`users` a page; 0 leaves it to the service")
	limit := flags.Int("limit", 0, "end after `n` events; 0 goes on until the deadline")
	flags.BoolFunc("verbose", "log every call to standard error", func(string) error {
		calling.log = slog.New(slog.NewJSONHandler(stderr, nil))
		return nil
	})
	if err := flags.Parse(arguments); err != nil {
		return nil, err
	}
	if calling.correlationID == "" {
		calling.correlationID = randomHex(16)
	}
	service, out := "user", &printer{to: stdout}
	switch words := flags.Args(); {
	case len(words) == 1 && words[0] == "me":
		wanted.call = me(out)
	case len(words) == 1 && words[0] == "users":
		wanted.call = users(out, *pageSize)
	case len(words) == 3 && words[0] == "check":
		wanted.call, service = check(out, words[1], words[2]), "permission"
	case len(words) == 1 && words[0] == "tail":
		wanted.call, service = tail(out, limit), "audit"
	default:
		flags.Usage()
		return nil, errUsage
	}
	if wanted.target == "" {
		wanted.target = "xds:///" + service
	}
	return wanted, nil
}

// run makes the call once; or, from several goroutines, until the first failure or an interruption, which is none.
func (c *command) run(ctx context.Context) error {
	conn, err := dial(c.target, c.calling)
	if err != nil {
		return err
	}
	defer conn.Close()
	if c.repeat == 0 {
		return c.call(ctx, conn)
	}
	workers, working := errgroup.WithContext(ctx)
	for range c.repeat {
		workers.Go(func() error {
			for working.Err() == nil {
				if err := c.call(working, conn); err != nil && ctx.Err() == nil {
					return err
				}
			}
			return nil
		})
	}
	return workers.Wait()
}
