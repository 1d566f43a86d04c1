// Echo and rooms on gorilla/websocket: `gorilla PORT` prints `ready listen=ADDRESS` when it serves.
//
// No compression, no idle timeout. Read buffers of 512 B instead of net/http's 4 KiB, write buffers from one pool. One
// goroutine a connection reads, not that of the HTTP handler: while that one lives, so do net/http's buffers and the request.
// What a room sends to a member is queued and written by a goroutine that lives only while something is queued. A broadcast is
// encoded once (PreparedMessage). Go sets TCP_NODELAY; the backlog is net.core.somaxconn.
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

	"github.com/gorilla/websocket"
)

// A member that does not read is cut when this many bytes wait for it.
const mostWaiting = 1 << 20

var upgrader = websocket.Upgrader{
	ReadBufferSize:  512,
	WriteBufferSize: 512,
	WriteBufferPool: &sync.Pool{},
	CheckOrigin:     func(*http.Request) bool { return true },
}

type queued struct {
	message *websocket.PreparedMessage
	size    int
}

type member struct {
	connection *websocket.Conn
	mutex      sync.Mutex
	queue      []queued
	waiting    int // bytes of the queue and of what is being written
	writing    bool
}

type room struct {
	mutex   sync.RWMutex
	members map[*member]struct{}
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
	listener, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		ended := make(chan os.Signal, 1)
		signal.Notify(ended, syscall.SIGTERM)
		<-ended
		os.Exit(0)
	}()
	http.HandleFunc("/echo", echo)
	http.HandleFunc("/room/", join)
	fmt.Printf("ready listen=%s\n", listener.Addr())
	log.Fatal(http.Serve(listener, nil))
}

func echo(response http.ResponseWriter, request *http.Request) {
	if connection, err := upgrader.Upgrade(response, request, nil); err == nil {
		go answer(connection)
	}
}

func answer(connection *websocket.Conn) {
	defer connection.Close()
	for {
		kind, data, err := connection.ReadMessage()
		if err != nil {
			return
		}
		if connection.WriteMessage(kind, data) != nil {
			return
		}
	}
}

func join(response http.ResponseWriter, request *http.Request) {
	// A copy, so that the name does not keep the request's line.
	name := strings.Clone(strings.TrimPrefix(request.URL.Path, "/room/"))
	if connection, err := upgrader.Upgrade(response, request, nil); err == nil {
		go distribute(name, connection)
	}
}

func distribute(name string, connection *websocket.Conn) {
	defer connection.Close()
	self := &member{connection: connection}
	joined := enter(name, self)
	defer leave(name, joined, self)
	for {
		kind, data, err := connection.ReadMessage()
		if err != nil {
			return
		}
		message, err := websocket.NewPreparedMessage(kind, data)
		if err != nil {
			return
		}
		joined.mutex.RLock()
		for other := range joined.members {
			if other != self {
				other.send(queued{message, len(data)})
			}
		}
		joined.mutex.RUnlock()
	}
}

func enter(name string, self *member) *room {
	roomsMutex.Lock()
	defer roomsMutex.Unlock()
	joined := rooms[name]
	if joined == nil {
		joined = &room{members: map[*member]struct{}{}}
		rooms[name] = joined
	}
	joined.mutex.Lock()
	joined.members[self] = struct{}{}
	joined.mutex.Unlock()
	return joined
}

func leave(name string, joined *room, self *member) {
	roomsMutex.Lock()
	defer roomsMutex.Unlock()
	joined.mutex.Lock()
	delete(joined.members, self)
	if len(joined.members) == 0 {
		delete(rooms, name)
	}
	joined.mutex.Unlock()
}

func (m *member) send(next queued) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	if m.waiting > mostWaiting {
		m.connection.Close()
		return
	}
	m.waiting += next.size
	m.queue = append(m.queue, next)
	if !m.writing {
		m.writing = true
		go m.drain()
	}
}

func (m *member) drain() {
	written := 0
	for {
		m.mutex.Lock()
		m.waiting -= written
		batch := m.queue
		m.queue = nil
		if len(batch) == 0 {
			m.writing = false
			m.mutex.Unlock()
			return
		}
		m.mutex.Unlock()
		written = 0
		for _, next := range batch {
			written += next.size
			// After an error the reading side ends too, and the member leaves the room.
			if m.connection.WritePreparedMessage(next.message) != nil {
				m.connection.Close()
			}
		}
	}
}
