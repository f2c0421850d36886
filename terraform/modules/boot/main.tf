locals {
  boot = {
    role              = var.role
    node              = var.node
    config            = var.config
    words             = var.words
    interfaces        = [for name in sort(keys(var.interfaces)) : { name = name, macs = var.interfaces[name].macs, wait = var.interfaces[name].wait }]
    secrets           = var.secrets
    files             = var.files
    package           = var.package
    source_dest_check = var.source_dest_check
    join              = var.join
    enroll            = var.enroll
    endpoints         = var.endpoints
  }

  # Interfaces of Portway's are named by udev, and have an address and nothing else: a default route of theirs would be the machine's.
  network = merge([
    for name, interface in var.interfaces : {
      "/etc/systemd/network/05-portway-${name}.link"    = templatefile("${path.module}/files/interface.link.tftpl", { name = name, macs = interface.macs })
      "/etc/systemd/network/05-portway-${name}.network" = templatefile("${path.module}/files/interface.network.tftpl", { macs = interface.macs, routes = interface.routes })
    }
  ]...)

  cloud_config = templatefile("${path.module}/files/cloud-config.yaml.tftpl", {
    role      = var.role
    boot      = jsonencode(local.boot)
    configure = file("${path.module}/files/portway-configure")
    networkd  = file("${path.module}/files/networkd.conf")
    network   = local.network
  })
  user_data = base64gzip(local.cloud_config)
}
