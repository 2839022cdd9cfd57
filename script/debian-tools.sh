# Tests the package with Debian's own tools, piuparts and autopkgtest. Sourced by script/test-deb.

# Install and purge it in a copy of the fresh Debian, and compare the files before and after.
try_piuparts() {
    say "$RELEASE: piuparts"
    # Ignore logrotate's state (piuparts runs logrotate with the configuration of the removed package), and a folder in
    # which apt inspects packages.
    check "piuparts finds nothing left" piuparts --tmpdir "$WORK" --distribution "$RELEASE" --mirror "$MIRROR main" \
        --existing-chroot "$FOLDER/$RELEASE" --no-eatmydata --warn-on-debsums-errors \
        --ignore /var/lib/logrotate/status --ignore /var/cache/debconf/tmp.ci/ "$WORK"/tef-manager_*.deb
}

# Run debian/tests in another Debian: they need a container that they may break.
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
