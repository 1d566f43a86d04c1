// Echo and rooms on nbio: `nbio PORT` prints `ready listen=ADDRESS` when it serves.
//
// No compression, no idle timeout. Non-blocking mode: one poller reads into one buffer that all connections share and runs the
// handlers itself, so an idle connection has neither a goroutine nor a buffer. Payloads return to the library's pool after each
// handler. Go sets TCP_NODELAY; the backlog is net.core.somaxconn.
package main

import (
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/lesismal/nbio/logging"
	"github.com/lesismal/nbio/nbhttp"
	"github.com/lesismal/nbio/nbhttp/websocket"
)

// A member that does not read is cut by the library when this much waits for it.
const mostWaiting = 1 << 20

type room struct {
	mutex   sync.RWMutex
	members map[*websocket.Conn]struct{}
}

var (
	roomsMutex sync.Mutex
	rooms      = map[string]*room{}
)

func main() {
	port := "0"
	if len(os.Args) > 1 {
		port = os.Args[1]
	}
	logging.SetLevel(logging.LevelError)
	handler := http.NewServeMux()
	handler.HandleFunc("/echo", echo)
	handler.HandleFunc("/room/", join)
	address := make(chan net.Addr, 1)
	engine := nbhttp.NewEngine(nbhttp.Config{
		Network:                 "tcp",
		Addrs:                   []string{"127.0.0.1:" + port},
		Handler:                 handler,
		MaxLoad:                 20000,
		NPoller:                 1,
		ReadBufferSize:          16 << 10,
		MaxWriteBufferSize:      mostWaiting,
		IOMod:                   nbhttp.IOModNonBlocking,
		ReleaseWebsocketPayload: true,
		ServerExecutor:          func(handle func()) { handle() },
		Listen: func(network, where string) (net.Listener, error) {
			listener, err := net.Listen(network, where)
			if err == nil {
				address <- listener.Addr()
			}
			return listener, err
		},
	})
	if err := engine.Start(); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("ready listen=%s\n", <-address)
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM)
	<-ended
}

func upgrader() *websocket.Upgrader {
	made := websocket.NewUpgrader()
	made.CheckOrigin = func(*http.Request) bool { return true }
	made.KeepaliveTime = 0
	return made
}

var echoes = upgrader()

func init() {
	echoes.OnMessage(func(connection *websocket.Conn, kind websocket.MessageType, data []byte) {
		connection.WriteMessage(kind, data)
	})
}

func echo(response http.ResponseWriter, request *http.Request) {
	if connection, err := echoes.Upgrade(response, request, nil); err == nil {
		connection.SetReadDeadline(time.Time{})
	}
}

var members = upgrader()

func init() {
	members.OnMessage(func(sender *websocket.Conn, kind websocket.MessageType, data []byte) {
		joined, ok := sender.Session().(*room)
		if !ok {
			return
		}
		joined.mutex.RLock()
		defer joined.mutex.RUnlock()
		for other := range joined.members {
			if other != sender {
				other.WriteMessage(kind, data)
			}
		}
	})
	members.OnClose(func(connection *websocket.Conn, _ error) {
		if joined, ok := connection.Session().(*room); ok {
			leave(joined, connection)
		}
	})
}

func join(response http.ResponseWriter, request *http.Request) {
	connection, err := members.Upgrade(response, request, nil)
	if err != nil {
		return
	}
	connection.SetReadDeadline(time.Time{})
	name := strings.TrimPrefix(request.URL.Path, "/room/")
	roomsMutex.Lock()
	joined := rooms[name]
	if joined == nil {
		joined = &room{members: map[*websocket.Conn]struct{}{}}
		rooms[name] = joined
	}
	roomsMutex.Unlock()
	connection.SetSession(joined)
	joined.mutex.Lock()
	joined.members[connection] = struct{}{}
	joined.mutex.Unlock()
}

// An empty room stays in the table: its name is all that it holds.
func leave(joined *room, connection *websocket.Conn) {
	joined.mutex.Lock()
	delete(joined.members, connection)
	joined.mutex.Unlock()
}
