package audiosocketsrc

import (
	"net/http"

	"github.com/callwarden/callwarden/pipeline/source/announce"
)

// path of the HTTP API; {uuid} is that of the socket, before or shortly after
// it connects.
const path = "/v1/audiosocket/calls/{uuid}"

// Handler is the HTTP API by which sockets get their numbers, for a server's
// root:
//
//	PUT    /v1/audiosocket/calls/{uuid}  an [Announcement]: 201, or 200 where it replaces one
//	POST   /v1/audiosocket/calls/{uuid}  the same, for a dialplan's CURL, which cannot PUT
//	GET    /v1/audiosocket/calls/{uuid}  what is announced: 200 or 404
//	DELETE /v1/audiosocket/calls/{uuid}  forgets it: 204 or 404
//
// 503 says that too many are announced already. Errors are JSON with the field
// error. A call that has begun does not change any more.
func (s *Source) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("PUT "+path, s.put)
	mux.HandleFunc("POST "+path, s.put)
	mux.HandleFunc("GET "+path, s.get)
	mux.HandleFunc("DELETE "+path, s.forget)
	return s.door.Guard(mux)
}

// uuidOf is that of the path; where it is none, the answer has been given.
func uuidOf(w http.ResponseWriter, r *http.Request) (uuid string, ok bool) {
	uuid, err := canonicalUUID(r.PathValue("uuid"))
	if err != nil {
		announce.Refuse(w, http.StatusBadRequest, err)
	}
	return uuid, err == nil
}

func (s *Source) put(w http.ResponseWriter, r *http.Request) {
	uuid, ok := uuidOf(w, r)
	if !ok {
		return
	}
	var a Announcement
	if !announce.Decode(w, r, &a) {
		return
	}
	if err := a.Validate(); err != nil {
		announce.Refuse(w, http.StatusBadRequest, err)
		return
	}
	replaced, err := s.register.put(uuid, a)
	switch {
	case err != nil:
		w.Header().Set("Retry-After", "10")
		announce.Refuse(w, http.StatusServiceUnavailable, err)
	case replaced:
		announce.Answer(w, http.StatusOK, a)
	default:
		announce.Answer(w, http.StatusCreated, a)
	}
}

func (s *Source) get(w http.ResponseWriter, r *http.Request) {
	uuid, ok := uuidOf(w, r)
	if !ok {
		return
	}
	a, ok, _ := s.register.get(uuid)
	if !ok {
		announce.Refuse(w, http.StatusNotFound, errUnknown)
		return
	}
	announce.Answer(w, http.StatusOK, a)
}

func (s *Source) forget(w http.ResponseWriter, r *http.Request) {
	uuid, ok := uuidOf(w, r)
	if !ok {
		return
	}
	if !s.register.remove(uuid) {
		announce.Refuse(w, http.StatusNotFound, errUnknown)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
