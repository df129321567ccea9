// Package e2e runs callwarden as it is shipped and calls it with the telephones
// and tools of others: sipp as a session border controller, baresip as a
// telephone, tshark to look at what goes over the wire. Its tests are run by
// make e2e, which installs these, and by make test.
//
// Everything happens in a network of its own that the tests make: no packet
// leaves it, ports are free, and no rights are needed where the system lets
// users have networks.
package e2e
