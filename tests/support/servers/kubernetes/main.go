// A Kubernetes API server and its etcd in one program, for tests: nothing that it stores is safe.
package main

import (
	"fmt"
	"net/url"
	"os"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

// The first argument is the store's folder, the second its address (http://host:port); the rest is kube-apiserver's.
func main() {
	if len(os.Args) < 3 {
		fail("usage: kube FOLDER http://HOST:PORT [flags of kube-apiserver]")
	}
	address, err := url.Parse(os.Args[2])
	if err != nil {
		fail(err)
	}
	// Nobody joins; any free port does.
	peer := url.URL{Scheme: "http", Host: "127.0.0.1:0"}
	config := embed.NewConfig()
	config.Dir = os.Args[1]
	config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{*address}, []url.URL{*address}
	config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	config.UnsafeNoFsync = true
	config.LogLevel = "error"
	store, err := embed.StartEtcd(config)
	if err != nil {
		fail(err)
	}
	select {
	case <-store.Server.ReadyNotify():
	case <-time.After(60 * time.Second):
		fail("etcd did not come up within 60 s")
	}
	os.Args = append([]string{os.Args[0], "--etcd-servers=" + os.Args[2]}, os.Args[3:]...)
	code := cli.Run(app.NewAPIServerCommand())
	store.Close()
	os.Exit(code)
}

func fail(why any) {
	fmt.Fprintln(os.Stderr, why)
	os.Exit(1)
}
