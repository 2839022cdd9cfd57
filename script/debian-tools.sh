# What Debian's own tools find when they try the package: piuparts and autopkgtest. To be sourced by script/test-deb.

# Installs and purges it in a copy of the fresh Debian, and compares what was there before and after.
try_piuparts() {
    say "$RELEASE: piuparts"
    # The first is what logrotate keeps, which piuparts runs with what a removed package has left; the other is a
    # folder in which apt looks at packages.
    check "piuparts finds nothing left" piuparts --tmpdir "$WORK" --distribution "$RELEASE" --mirror "$MIRROR main" \
        --existing-chroot "$FOLDER/$RELEASE" --no-eatmydata --warn-on-debsums-errors \
        --ignore /var/lib/logrotate/status --ignore /var/cache/debconf/tmp.ci/ "$WORK"/tef-manager_*.deb
}

# Runs debian/tests in one more Debian, which is the container that they want, and may be broken by them.
try_autopkgtest() {
    shut_down
    prepare autopkgtest dpkg-dev python3-pika
    mkdir "$DEBIAN/root/source"
    cp -r "$ROOT/debian" "$DEBIAN/root/source"
    cp "$WORK"/tef-manager_*.deb "$DEBIAN/root"
    boot || die "$RELEASE: systemd ran before, and does not now"
    say "$RELEASE: autopkgtest"
    check "autopkgtest can be had" inside apt-get install -y --no-install-recommends autopkgtest
    check "autopkgtest passes" has 'autopkgtest --ignore-restrictions=isolation-container,breaks-testbed \
        --no-built-binaries /root/tef-manager_*.deb /root/source -- null 2>&1' '^smoke *PASS'
}
