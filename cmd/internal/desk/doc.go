// Package desk is the live desk: what people look at while calls are judged,
// and where they say what they make of it. It reads events from a NATS server,
// also one of another machine, shows the calls of the moment and of the last
// days, and tells as events what people do.
//
// # How it is asked
//
// Everything is JSON. Times of a call's media clock are seconds; those of the
// wall clock are milliseconds since 1970 by the clock of the desk, and what is
// streamed has its now. What is empty is left out. Nothing is escaped for
// HTML. A refusal is {"error": a sentence, "code": "sign_in", "role",
// "tenant", "csrf", "rate", "not_found", "bad", "nats_away" or "busy"}. What
// changes something wants Content-Type application/json, and a page of the
// desk's own origin.
//
//	GET  /                                   the page; its files are below /web/
//	POST /api/signin {"token"}               who it lets in, and a cookie
//	POST /api/signout {}
//	GET  /api/me                             who asks, and what they may do
//	GET  /api/live                           stream: snapshot, delta, status, beat, bye
//	GET  /api/calls/{tenant}/{id}            a call, also of the history: [board.Call]
//	GET  /api/calls/{tenant}/{id}/live       stream: snapshot, update, beat, gone, bye
//	GET  /api/calls/{tenant}/{id}/segments   ?before=N&limit=500: segments before the Nth
//	GET  /api/calls/{tenant}/{id}/export.json, export.txt                     analyst
//	POST /api/calls/{tenant}/{id}/actions {"action","note","undoes"}          analyst
//	POST /api/calls/{tenant}/{id}/prompt {"prompt"}                           analyst
//	GET  /api/history                        ?q&from&to&level&tactic&source&tenant&number&verdict&spoken=1&limit&cursor
//	GET  /api/history/days, /api/history/day/2026-11-22                       ?tz
//	GET  /api/history/export.json, export.csv                                 analyst
//	DELETE /api/history/calls/{tenant}/{id}                                   admin
//	POST /api/history/delete {"number","tenant","dry"}                        admin
//	GET  /api/audit                          ?limit&before                    admin
//
// Streams are server-sent events. Of the overview's, a snapshot replaces all
// rows; a delta has rows that take the place of those with their tenant and
// id, and names calls that have gone. Its ids are versions of the board: who
// comes back with Last-Event-ID, or ?since, gets what changed since, and no row
// twice. Changes are never queued for a reader: what has changed while it read
// is told together, each row as it is then. A stream without a word for 25
// seconds is cut.
//
// # Who is let in
//
// A token of the tokens file, sent once to sign in or with every request as a
// bearer; or a reverse proxy that says who somebody is. Where neither is
// configured, whoever is on this machine, and nobody else. A viewer looks, an
// analyst also judges and takes evidence along, an admin also deletes and sees
// the audit log; each sees the calls of their tenants only. The tokens file is
// read again when it changes, and who is not in it any more is cut off.
//
// # What it keeps
//
// In a folder of its own: calls that have ended with everything but their
// audio, and who looked at what. A history that is damaged is set aside, which
// is told, and a new one begun.
package desk
