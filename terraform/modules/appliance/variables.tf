variable "name" {
  description = "Of this appliance: what its machines and everything else of it is called and tagged (`portway:appliance`). No other in the region has it."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,23}$", var.name))
    error_message = "name is \"${var.name}\": write 1 to 24 lowercase letters, digits and '-', a letter first; names of IAM and of security groups are made of it."
  }
}

variable "placement" {
  description = <<-EOT
    Whose VPC the gateways are in: `platform`, each with an interface in every tenant's VPC besides; or `tenant`, in the VPC of the one tenant that they
    serve, with an interface in the platform's. Interfaces cross VPCs within one account and one zone.
  EOT
  type        = string
  default     = "platform"

  validation {
    condition     = contains(["platform", "tenant"], var.placement)
    error_message = "placement is \"${var.placement}\": write \"platform\" or \"tenant\"."
  }

  validation {
    condition     = var.placement != "tenant" || length(var.tenants) == 1
    error_message = "placement = \"tenant\" puts the gateways into one tenant's VPC, and there are ${length(var.tenants)} tenants: write placement = \"platform\", or an appliance for each."
  }

  validation {
    condition     = var.placement != "tenant" || length(var.platform.function_host_cidrs) > 0
    error_message = "With placement = \"tenant\" routes lead to the function hosts, besides the default route, which is the tenant's: give platform.function_host_cidrs, not security groups alone."
  }

  validation {
    condition     = var.placement != "tenant" || var.autoscaling == null
    error_message = "placement = \"tenant\" does not go with autoscaling: a group's nodes know their primary interface alone when they start, and it must be the platform's. Write placement = \"platform\", or nodes."
  }
}

variable "platform" {
  description = <<-EOT
    The side of the function hosts.
    - `subnets`: by a label of yours, such as the zone: the subnet for gateways, as an `aws_subnet` resource or data source.
    - `route_tables`: ids of the tables by which function hosts find HaVips that lie in no subnet (/32 routes, which the gateways move).
    - `function_host_cidrs`, `function_host_security_groups`: where function hosts are; at least one.
    - `mtu`: bytes of an outer packet, where the way to the hosts takes fewer than the interface: 1500 across regions and some peerings.
  EOT
  type = object({
    subnets = map(object({
      id                = string
      vpc_id            = string
      cidr_block        = string
      availability_zone = string
    }))
    route_tables                  = optional(list(string), [])
    function_host_cidrs           = optional(list(string), [])
    function_host_security_groups = optional(map(string), {})
    mtu                           = optional(number)
  })

  validation {
    condition     = length(var.platform.subnets) > 0
    error_message = "platform.subnets is empty: give one subnet of each zone that has gateways, such as { a = aws_subnet.platform_a }."
  }

  validation {
    condition     = length(distinct(values(var.platform.subnets)[*].vpc_id)) <= 1
    error_message = "platform.subnets are of several VPCs: give the subnets of one, an appliance for each."
  }

  validation {
    condition     = length(var.platform.function_host_cidrs) + length(var.platform.function_host_security_groups) > 0
    error_message = "platform says nowhere where function hosts are, so no tunnel would be let in: give function_host_cidrs, or function_host_security_groups."
  }

  validation {
    condition     = alltrue([for cidr in var.platform.function_host_cidrs : can(cidrhost(cidr, 0)) && try(cidrhost(cidr, 0), "") == split("/", cidr)[0]])
    error_message = "platform.function_host_cidrs has what is no network: write its first address and its length, such as 10.9.64.0/18."
  }

  validation {
    condition     = var.platform.mtu == null ? true : var.platform.mtu >= 1340 && var.platform.mtu <= 9001
    error_message = "platform.mtu must be 1340 to 9001 bytes: WireGuard takes 60 and must leave 1280, and EC2 carries 9001."
  }
}

variable "tenants" {
  description = <<-EOT
    Who is served, by name.
    - `subnets`: by the labels of `platform.subnets`: the tenant's subnet of the same zone, as an `aws_subnet`.
    - `device`: the index at which the tenant's interface is at each node, 1 and up; each tenant has its own, for good.
    - `key`: with GRE, which tells tenants apart; 0 to 4294967295.
    - `inner`: addresses inside the tunnels, which neither the tenant nor the platform has. The tenth address for host 10 and shard 0 is number 160.
    - `allow`: what functions may reach: `to`, a network, and `tcp`, `udp` (ports and ranges, or ["all"]) and `icmp`.
    - `snat_ports`: ports of the source that servers see.
    - `route_tables`: ids of the tables by which servers find HaVips that lie in no subnet.
    - `track`: checks on which the shards depend, as in gateway.yaml, but for scripts.
    - `shards`: what fails over: `shard` (0 to 15), `vrid` (default: shard + 1), the HaVips `platform` and `tenant`, each an address of the subnet, or of none;
      `priority` by node (without: shared out evenly); `wireguard`: `private_key` by ARN, the `public_key` of it that hosts need who know no directory, `port`
      (default 51820 + shard) and the `next` pair; `public`: "new" or an allocation's id: the elastic address of all that goes out there.
  EOT
  type = map(object({
    subnets = map(object({
      id                = string
      vpc_id            = string
      cidr_block        = string
      availability_zone = string
    }))
    device = optional(number, 1)
    key    = optional(number)
    inner  = string
    allow = list(object({
      to   = string
      tcp  = optional(list(string), [])
      udp  = optional(list(string), [])
      icmp = optional(bool, false)
    }))
    snat_ports   = optional(string, "1024-65535")
    route_tables = optional(list(string), [])
    track        = optional(list(map(string)), [])
    shards = list(object({
      shard    = number
      vrid     = optional(number)
      platform = string
      tenant   = string
      priority = optional(map(number), {})
      public   = optional(string)
      wireguard = optional(object({
        private_key = string
        public_key  = optional(string)
        port        = optional(number)
        next        = optional(object({ private_key = string, port = optional(number) }))
      }))
    }))
  }))

  validation {
    condition     = length(var.tenants) > 0 && alltrue([for name in keys(var.tenants) : can(regex("^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$", name))])
    error_message = "tenants needs one at least, each with a name of 1 to 63 letters, digits, '-', '_' or '.', a letter or digit first."
  }

  validation {
    condition     = alltrue([for tenant in values(var.tenants) : length(distinct(values(tenant.subnets)[*].vpc_id)) <= 1])
    error_message = "A tenant's subnets are of several VPCs: a tenant is one VPC. Write two tenants, or subnets of one."
  }

  validation {
    condition     = alltrue([for tenant in values(var.tenants) : length(setsubtract(keys(var.platform.subnets), keys(tenant.subnets))) == 0])
    error_message = "A tenant lacks a subnet where the platform has one: give every tenant's subnets the labels of platform.subnets (${join(", ", keys(var.platform.subnets))})."
  }

  validation {
    condition = alltrue(flatten([
      for tenant in values(var.tenants) : [
        for label, subnet in tenant.subnets : subnet.availability_zone == try(var.platform.subnets[label].availability_zone, subnet.availability_zone)
      ]
    ]))
    error_message = "A tenant's subnet and the platform's of the same label are in different zones: an instance takes interfaces of its own zone alone. Give both of one zone."
  }

  validation {
    condition = alltrue([for tenant in values(var.tenants) : tenant.device >= 1 && tenant.device <= 14 && floor(tenant.device) == tenant.device]) && (
      length(distinct([for tenant in values(var.tenants) : tenant.device])) == length(var.tenants)
    )
    error_message = "Every tenant needs a device index of its own, 1 to 14, and keeps it: write device = 1, device = 2 and so on."
  }

  validation {
    condition = alltrue([
      for tenant in values(var.tenants) : var.tunnel == "wireguard" ? tenant.key == null : (
        tenant.key == null ? false : tenant.key >= 0 && tenant.key <= 4294967295 && floor(tenant.key) == tenant.key
      )
    ])
    error_message = "With tunnel = \"gre\" every tenant needs a key, 0 to 4294967295, as on its function hosts; with \"wireguard\" none has one."
  }

  validation {
    condition     = length(distinct([for tenant in values(var.tenants) : tenant.key if tenant.key != null])) == length([for tenant in values(var.tenants) : tenant.key if tenant.key != null])
    error_message = "Two tenants have the same key, which tells them apart in the tunnels: give each its own."
  }

  validation {
    condition     = alltrue([for tenant in values(var.tenants) : can(cidrhost(tenant.inner, 0)) && try(cidrhost(tenant.inner, 0), "") == split("/", tenant.inner)[0]])
    error_message = "A tenant's inner is no network: write its first address and its length, such as 10.64.0.0/16."
  }

  validation {
    condition = alltrue(flatten([
      for tenant in values(var.tenants) : [
        for allow in tenant.allow : can(cidrhost(allow.to, 0)) && try(cidrhost(allow.to, 0), "") == split("/", allow.to)[0] && try(tonumber(split("/", allow.to)[1]), 0) > 0
      ]
    ]))
    error_message = "What a tenant's allow leads `to` is no network of its own: write its first address and its length, such as 172.16.0.0/16, and not 0.0.0.0/0."
  }

  validation {
    condition     = alltrue([for tenant in values(var.tenants) : length(tenant.allow) > 0]) && alltrue(flatten([for tenant in values(var.tenants) : [for allow in tenant.allow : length(allow.tcp) + length(allow.udp) > 0 || allow.icmp]]))
    error_message = "A tenant allows nothing: write allow = [{ to = \"172.16.0.0/16\", tcp = [\"5432\"] }], with tcp, udp or icmp in each entry."
  }

  validation {
    condition = alltrue(flatten([
      for tenant in values(var.tenants) : [
        for allow in tenant.allow : [
          for ports in concat(allow.tcp, allow.udp) : ports == "all" || can(regex("^[1-9][0-9]{0,4}(-[1-9][0-9]{0,4})?$", ports)) && (
            try(tonumber(split("-", ports)[0]), 1) <= try(tonumber(reverse(split("-", ports))[0]), 1) && try(tonumber(reverse(split("-", ports))[0]), 1) <= 65535
          )
        ]
      ]
    ]))
    error_message = "Ports in a tenant's allow are \"5432\", a range as \"8000-8099\" with the lower first, or \"all\"; 1 to 65535."
  }

  validation {
    condition = alltrue([
      for tenant in values(var.tenants) : can(regex("^[1-9][0-9]{0,4}-[1-9][0-9]{0,4}$", tenant.snat_ports)) && (
        try(tonumber(split("-", tenant.snat_ports)[0]), 1) <= try(tonumber(split("-", tenant.snat_ports)[1]), 0) && try(tonumber(split("-", tenant.snat_ports)[1]), 0) <= 65535
      )
    ])
    error_message = "A tenant's snat_ports is no range: write the lower and the higher port, such as \"1024-65535\"."
  }

  validation {
    condition = alltrue(flatten([
      for tenant in values(var.tenants) : concat(
        [length(tenant.shards) > 0, length(distinct(tenant.shards[*].shard)) == length(tenant.shards)],
        [for shard in tenant.shards : shard.shard >= 0 && shard.shard <= 15 && floor(shard.shard) == shard.shard]
      )
    ]))
    error_message = "Every tenant needs shards, each with a number of its own, 0 to 15: such as shards = [{ shard = 0, platform = \"10.9.0.50\", tenant = \"172.16.101.10\" }]."
  }

  validation {
    condition = alltrue(flatten([
      for tenant in values(var.tenants) : concat(
        [length(distinct([for shard in tenant.shards : coalesce(shard.vrid, shard.shard + 1)])) == length(tenant.shards)],
        [for shard in tenant.shards : coalesce(shard.vrid, 1) >= 1 && coalesce(shard.vrid, 1) <= 255]
      )
    ]))
    error_message = "Every shard of a tenant needs a vrid of its own, 1 to 255; without one it is the shard's number and one."
  }

  validation {
    condition = alltrue(flatten([
      for tenant in values(var.tenants) : [
        for shard in tenant.shards : [for address in [shard.platform, shard.tenant] : can(cidrhost("${address}/32", 0)) && try(cidrhost("${address}/32", 0), "") == address]
      ]
    ]))
    error_message = "A shard's platform or tenant is no IPv4 address: write one as 10.9.0.50, without a length."
  }

  validation {
    condition = (
      length(distinct(flatten([for tenant in values(var.tenants) : tenant.shards[*].platform]))) == length(flatten([for tenant in values(var.tenants) : tenant.shards[*].platform]))
      && alltrue([for tenant in values(var.tenants) : length(distinct(tenant.shards[*].tenant)) == length(tenant.shards)])
    )
    error_message = "Two shards share a HaVip: give every shard a platform HaVip that no other of the appliance has, and a tenant HaVip that no other of its tenant has."
  }

  validation {
    condition = alltrue(flatten([
      for tenant in values(var.tenants) : [
        for shard in tenant.shards : [
          for side in [{ subnets = var.platform.subnets, address = shard.platform }, { subnets = tenant.subnets, address = shard.tenant }] : [
            for label, subnet in side.subnets : (
              try(cidrhost("${side.address}/${split("/", subnet.cidr_block)[1]}", 0) == cidrhost(subnet.cidr_block, 0), false) ? length(side.subnets) == 1 : true
            )
          ]
        ]
      ]
    ]))
    error_message = "A HaVip lies in a subnet, and there is more than one: it could not move to another zone. Keep to one zone, or take HaVips that lie in no VPC's networks, and name the route_tables that lead to them."
  }

  validation {
    condition = alltrue(flatten([
      for tenant in values(var.tenants) : [
        for shard in tenant.shards : [
          for side in [{ subnets = var.platform.subnets, address = shard.platform, tables = var.platform.route_tables }, { subnets = tenant.subnets, address = shard.tenant, tables = tenant.route_tables }] : (
            anytrue([for subnet in values(side.subnets) : try(cidrhost("${side.address}/${split("/", subnet.cidr_block)[1]}", 0) == cidrhost(subnet.cidr_block, 0), false)]) || length(side.tables) > 0
          )
        ]
      ]
    ]))
    error_message = "A HaVip lies in no subnet of its side, and no route_tables of that side are named: nobody would find it. Take an address of the subnet, or name the tables."
  }

  validation {
    condition = alltrue(flatten([
      for tenant in values(var.tenants) : [
        for shard in tenant.shards : [
          for side in [{ subnets = var.platform.subnets, address = shard.platform }, { subnets = tenant.subnets, address = shard.tenant }] : [
            for subnet in values(side.subnets) : !contains([for index in [0, 1, 2, 3, -1] : try(cidrhost(subnet.cidr_block, index), "")], side.address)
          ]
        ]
      ]
    ]))
    error_message = "A HaVip is one of the five addresses that AWS keeps in every subnet, the first four and the last: take another."
  }

  validation {
    condition = alltrue(flatten([
      for tenant in values(var.tenants) : [for shard in tenant.shards : (var.tunnel == "wireguard") == (shard.wireguard != null)]
    ]))
    error_message = "With tunnel = \"wireguard\" every shard needs wireguard = { private_key = ARN }, and with \"gre\" none has it."
  }

  validation {
    condition = alltrue(flatten([
      for tenant in values(var.tenants) : [
        for shard in tenant.shards : [
          for arn in shard.wireguard == null ? [] : concat([shard.wireguard.private_key], shard.wireguard.next == null ? [] : [shard.wireguard.next.private_key]) :
          can(regex("^arn:[a-z-]+:(ssm:[a-z0-9-]+:[0-9]{12}:parameter|secretsmanager:[a-z0-9-]+:[0-9]{12}:secret)[/:].+$", arn))
        ]
      ]
    ]))
    error_message = "A shard's private_key is not named by its ARN: write arn:aws:ssm:REGION:ACCOUNT:parameter/NAME or arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME, and never the key itself."
  }

  validation {
    condition = var.tunnel != "wireguard" || length(distinct(flatten([
      for tenant in values(var.tenants) : [for shard in tenant.shards : try(coalesce(shard.wireguard.port, 51820 + shard.shard), 51820 + shard.shard)]
    ]))) == length(flatten([for tenant in values(var.tenants) : tenant.shards[*].shard]))
    error_message = "Two shards have one UDP port, which WireGuard takes at all addresses of a node: give all but one of them another wireguard.port (the default is 51820 + the shard's number)."
  }

  validation {
    condition = var.tunnel != "wireguard" || var.directory != null || alltrue(flatten([
      for tenant in values(var.tenants) : [for shard in tenant.shards : can(regex("^[A-Za-z0-9+/]{43}=$", shard.wireguard.public_key))]
    ]))
    error_message = "Without a directory hosts know a shard by its public key: give wireguard.public_key, what `wg pubkey` prints of the private one."
  }

  validation {
    condition = alltrue(flatten([
      for tenant in values(var.tenants) : [for shard in tenant.shards : shard.public == null ? true : can(regex("^(new|eipalloc-[0-9a-f]+)$", shard.public))]
    ]))
    error_message = "A shard's public is neither \"new\" nor the id of an allocation, such as eipalloc-0123456789abcdef0."
  }

  validation {
    condition = alltrue(flatten([
      for tenant in values(var.tenants) : [
        for shard in tenant.shards : shard.public == null || anytrue([
          for subnet in values(tenant.subnets) : try(cidrhost("${shard.tenant}/${split("/", subnet.cidr_block)[1]}", 0) == cidrhost(subnet.cidr_block, 0), false)
        ])
      ]
    ]))
    error_message = "A shard with a public address has a tenant HaVip that lies in no subnet: AWS binds elastic addresses to addresses of a subnet alone. Take one of the subnet, or leave public out."
  }

  validation {
    condition = alltrue([
      for tenant in values(var.tenants) : length(distinct(tenant.allow[*].to)) * 3 <= 60 && (
        length(distinct(flatten([for allow in tenant.allow : [for ports in allow.tcp : "${allow.to} ${ports}"]]))) + length(distinct(flatten([for allow in tenant.allow : [for ports in allow.udp : "${allow.to} ${ports}"]]))) + length(distinct([for allow in tenant.allow : allow.to if allow.icmp])) <= 60
      )
    ])
    error_message = "A tenant's allow makes more than the 60 rules that a security group takes (3 inbound for each network, 1 outbound for each network and port): write wider networks or ranges of ports."
  }
}

variable "tunnel" {
  description = "`gre`, or `wireguard`, which is encrypted."
  type        = string
  default     = "gre"

  validation {
    condition     = contains(["gre", "wireguard"], var.tunnel)
    error_message = "tunnel is \"${var.tunnel}\": write \"gre\" or \"wireguard\"."
  }
}

variable "hosts" {
  description = <<-EOT
    Function hosts, by name, where no directory knows them: `number`, for good, which gives their inner addresses; `outer`, the address of each (GRE) or its
    `public_key` (WireGuard).
  EOT
  type = map(object({
    number     = number
    outer      = optional(string)
    public_key = optional(string)
  }))
  default = {}

  validation {
    condition     = alltrue([for name in keys(var.hosts) : can(regex("^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$", name))])
    error_message = "A host's name has others than letters, digits, '-', '_' and '.', or more than 63 of them."
  }

  validation {
    condition     = alltrue([for host in values(var.hosts) : host.number >= 1 && floor(host.number) == host.number]) && length(distinct(values(var.hosts)[*].number)) == length(var.hosts)
    error_message = "Every host needs a number of its own, 1 and up, and keeps it: its inner addresses are made of it."
  }

  validation {
    condition = alltrue(flatten([
      for tenant in values(var.tenants) : [for host in values(var.hosts) : can(cidrhost(tenant.inner, host.number * 16 + 15))]
    ]))
    error_message = "A host's number is too high for a tenant's inner network, which has 16 addresses for each: take a lower number, or a wider network (a /16 has room for 4095 hosts)."
  }

  validation {
    condition     = var.tunnel != "gre" || alltrue([for host in values(var.hosts) : host.outer == null ? false : can(cidrhost("${host.outer}/32", 0)) && host.public_key == null])
    error_message = "With tunnel = \"gre\" a host is known by its address: give every host outer = \"10.9.64.11\", and no public_key."
  }

  validation {
    condition     = var.tunnel != "wireguard" || alltrue([for host in values(var.hosts) : can(regex("^[A-Za-z0-9+/]{43}=$", host.public_key))])
    error_message = "With tunnel = \"wireguard\" a host is known by its key: give every host the public_key that `wg pubkey` prints."
  }
}

variable "nodes" {
  description = <<-EOT
    Fixed gateways, by name: the label of their `subnet`, and their own addresses, `platform` and by tenant, where they are not left to AWS. Two at least; or none,
    with `autoscaling`.
  EOT
  type = map(object({
    subnet   = string
    platform = optional(string)
    tenants  = optional(map(string), {})
  }))
  default = {}

  validation {
    condition     = var.autoscaling != null ? length(var.nodes) == 0 : length(var.nodes) >= 2
    error_message = "Give two nodes at least, such as { gw-1 = { subnet = \"a\" }, gw-2 = { subnet = \"a\" } }, so that one takes over from the other; or autoscaling, and none."
  }

  validation {
    condition     = alltrue([for name in keys(var.nodes) : can(regex("^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$", name))])
    error_message = "A node's name has others than letters, digits, '-', '_' and '.', or more than 63 of them."
  }

  validation {
    condition     = alltrue([for node in values(var.nodes) : contains(keys(var.platform.subnets), node.subnet)])
    error_message = "A node is in a subnet that is none of platform.subnets (${join(", ", keys(var.platform.subnets))}): name one of these."
  }

  validation {
    condition     = alltrue([for label in keys(var.platform.subnets) : length([for node in values(var.nodes) : node if node.subnet == label]) <= 7])
    error_message = "More than 7 nodes in one zone: AWS keeps no more on machines of their own (a spread placement group). Use another zone, or autoscaling."
  }

  validation {
    condition = alltrue([
      for node in values(var.nodes) : node.platform == null ? true : try(cidrhost("${node.platform}/${split("/", var.platform.subnets[node.subnet].cidr_block)[1]}", 0) == cidrhost(var.platform.subnets[node.subnet].cidr_block, 0), false)
    ])
    error_message = "A node's platform address does not lie in its subnet: take one of the subnet, or leave it to AWS."
  }

  validation {
    condition = alltrue(flatten([
      for node in values(var.nodes) : [
        for tenant, address in node.tenants : try(cidrhost("${address}/${split("/", var.tenants[tenant].subnets[node.subnet].cidr_block)[1]}", 0) == cidrhost(var.tenants[tenant].subnets[node.subnet].cidr_block, 0), false)
      ]
    ]))
    error_message = "A node's address of a tenant does not lie in that tenant's subnet, or there is no such tenant: take one of the subnet, or leave it to AWS."
  }

  validation {
    condition = length(setintersection(
      compact(concat(values(var.nodes)[*].platform, flatten([for node in values(var.nodes) : values(node.tenants)]))),
      flatten([for tenant in values(var.tenants) : [for shard in tenant.shards : [shard.platform, shard.tenant]]])
    )) == 0
    error_message = "A node's own address is a HaVip too, and would never leave it: give every node addresses of its own."
  }

  validation {
    condition = alltrue(flatten([
      for tenant in values(var.tenants) : [for shard in tenant.shards : [for node, priority in shard.priority : contains(keys(var.nodes), node) && priority >= 1 && priority <= 254]]
    ]))
    error_message = "A shard's priority names what is no node, or is not 1 to 254: write it by the names of nodes, such as { gw-1 = 200, gw-2 = 100 }."
  }

  validation {
    condition     = var.directory == null ? true : length(setsubtract(keys(var.nodes), keys(var.directory.tokens))) == 0
    error_message = "A node has no token for the directory: give directory.tokens the ARN of one for each node (`portway directory token add --role gateway --gateway NODE`)."
  }
}

variable "autoscaling" {
  description = <<-EOT
    An Auto Scaling group in place of `nodes`, which an autoscaler of Portway's sizes. Its nodes are called by their instances' ids, and a directory tells each of the
    others.
    - `min_size`, `max_size`: 2 to 64.
    - `spare_interfaces`: of each tenant in each zone, beyond `max_size`, for instances that come before others have gone.
    - `drain_timeout`: seconds that an instance that goes has for handing over, 30 to 7200.
  EOT
  type = object({
    min_size         = optional(number, 2)
    max_size         = optional(number, 4)
    spare_interfaces = optional(number, 1)
    drain_timeout    = optional(number, 420)
  })
  default = null

  validation {
    condition     = var.autoscaling == null ? true : 2 <= var.autoscaling.min_size && var.autoscaling.min_size <= var.autoscaling.max_size && var.autoscaling.max_size <= 64
    error_message = "autoscaling takes 2 <= min_size <= max_size <= 64: one node alone has nobody to take over from it, and a group has no more than 64."
  }

  validation {
    condition     = var.autoscaling == null ? true : var.autoscaling.spare_interfaces >= 0 && var.autoscaling.drain_timeout >= 30 && var.autoscaling.drain_timeout <= 7200
    error_message = "autoscaling.drain_timeout is 30 to 7200 seconds (a drain ends after 350 by itself), and spare_interfaces 0 and up."
  }

  validation {
    condition     = var.autoscaling == null || try(var.directory.operator_token, null) != null
    error_message = "Nodes of a group are known to nobody beforehand: give directory, with the operator_token by which each makes itself known."
  }
}

variable "ha" {
  description = <<-EOT
    How gateways share addresses: one or two `keys`, each with an `id` and the ARN of a `secret` (64 to 128 hexadecimal digits), of which the first signs;
    `interval` of advertisements; `preempt`: how long a better node waits; `sync_port`.
  EOT
  type = object({
    keys      = list(object({ id = optional(number, 1), secret = string }))
    interval  = optional(string, "100ms")
    preempt   = optional(string, "0s")
    sync_port = optional(number, 3790)
  })

  validation {
    condition     = contains([1, 2], length(var.ha.keys)) && length(distinct(var.ha.keys[*].id)) == length(var.ha.keys) && alltrue([for key in var.ha.keys : key.id >= 1 && key.id <= 255])
    error_message = "ha.keys takes one key, or two while it changes, each with an id of its own, 1 to 255: keys = [{ id = 1, secret = ARN }]."
  }

  validation {
    condition = alltrue([
      for key in var.ha.keys : can(regex("^arn:[a-z-]+:(ssm:[a-z0-9-]+:[0-9]{12}:parameter|secretsmanager:[a-z0-9-]+:[0-9]{12}:secret)[/:].+$", key.secret))
    ])
    error_message = "A key of ha is not named by its ARN: write arn:aws:ssm:REGION:ACCOUNT:parameter/NAME or arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME, and never the key itself. The module `secrets` makes one."
  }

  validation {
    condition     = can(regex("^([1-9][0-9]*0ms|[0-9]+(\\.[0-9]{1,2})?s)$", var.ha.interval)) && can(regex("^(never|[0-9]+(ms|s|m|h))$", var.ha.preempt))
    error_message = "ha.interval is a multiple of 10ms, such as \"100ms\" or \"1s\", and ha.preempt a time, such as \"0s\" or \"5m\", or \"never\"."
  }

  validation {
    condition     = var.ha.sync_port >= 1 && var.ha.sync_port <= 65535
    error_message = "ha.sync_port is a UDP port, 1 to 65535."
  }
}

variable "directory" {
  description = <<-EOT
    The directory that knows function hosts, with `tunnel = "wireguard"`: `url`; `ca`, the certificate in PEM of who certifies it; `tokens`, by fixed node the ARN of
    its token; `operator_token`, with `autoscaling`, the ARN of a token of an operator of these tenants.
  EOT
  type = object({
    url            = string
    ca             = optional(string)
    tokens         = optional(map(string), {})
    operator_token = optional(string)
  })
  default = null

  validation {
    condition     = var.directory == null || var.tunnel == "wireguard"
    error_message = "directory goes with tunnel = \"wireguard\": GRE knows hosts by their addresses. Write that, or list hosts."
  }

  validation {
    condition     = var.directory == null ? true : can(regex("^https://[A-Za-z0-9.-]+(:[0-9]+)?/?$", var.directory.url))
    error_message = "directory.url must be https, with no more than a name and a port, such as https://directory.example:9473: tokens go there."
  }

  validation {
    condition = var.directory == null ? true : alltrue([
      for arn in compact(concat(values(var.directory.tokens), [var.directory.operator_token])) : can(regex("^arn:[a-z-]+:(ssm:[a-z0-9-]+:[0-9]{12}:parameter|secretsmanager:[a-z0-9-]+:[0-9]{12}:secret)[/:].+$", arn))
    ])
    error_message = "A token for the directory is not named by its ARN: write arn:aws:ssm:REGION:ACCOUNT:parameter/NAME or arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME, and never the token itself."
  }

  validation {
    condition     = var.directory == null ? true : var.directory.ca == null ? true : startswith(trimspace(var.directory.ca), "-----BEGIN CERTIFICATE-----")
    error_message = "directory.ca is no certificate in PEM: give its text, as file(\"ca.pem\")."
  }
}

variable "instance" {
  description = <<-EOT
    The machines: `type`, whose number of interfaces and of addresses at each bounds tenants and shards; `image`, by default the newest Debian 12 when they are made;
    `architecture` of that, `amd64` or `arm64`; `primary_interface`, what the image calls its first interface, for the outputs only; `volume`, GiB; `key_name` for ssh.
  EOT
  type = object({
    type              = optional(string, "c6in.large")
    image             = optional(string)
    architecture      = optional(string, "amd64")
    primary_interface = optional(string, "ens5")
    volume            = optional(number, 8)
    key_name          = optional(string)
  })
  default = {}

  validation {
    condition     = var.instance.image == null ? true : can(regex("^ami-[0-9a-f]+$", var.instance.image))
    error_message = "instance.image is no id of an image, such as ami-0123456789abcdef0: name a Debian or Ubuntu of the region, or leave it out."
  }

  validation {
    condition     = contains(["amd64", "arm64"], var.instance.architecture)
    error_message = "instance.architecture is \"amd64\" or \"arm64\", as the type and the package."
  }
}

variable "package" {
  description = "Portway's .deb: `url`, over https, or `s3`, an object of a bucket in the region; and `sha256`, what `sha256sum` says of it. Null: the image has it."
  type = object({
    sha256 = string
    url    = optional(string)
    s3     = optional(object({ bucket = string, key = string }))
  })
  default = null

  validation {
    condition     = var.package == null ? true : (var.package.url == null) != (var.package.s3 == null)
    error_message = "package needs one of url and s3: url = \"https://HOST/FILE\", or s3 = { bucket = \"BUCKET\", key = \"KEY\" }."
  }

  validation {
    condition     = var.package == null ? true : var.package.url == null ? true : can(regex("^https://[^/ ]+/[^ ]+$", var.package.url))
    error_message = "package.url is not https://HOST/FILE: over plain http anybody on the way could put a package of theirs in its place."
  }

  validation {
    condition     = var.package == null ? true : can(regex("^[0-9a-f]{64}$", var.package.sha256))
    error_message = "package.sha256 must be the 64 lowercase hexadecimal digits that `sha256sum FILE` prints, or in Terraform filesha256(FILE)."
  }
}

variable "admin" {
  description = "Who may read metrics and status at TCP 9470 of the platform addresses (an autoscaler, Prometheus): networks and security groups. None: it listens on loopback."
  type = object({
    cidrs           = optional(list(string), [])
    security_groups = optional(map(string), {})
  })
  default = {}

  validation {
    condition     = alltrue([for cidr in var.admin.cidrs : can(cidrhost(cidr, 0)) && try(tonumber(split("/", cidr)[1]), 0) > 0])
    error_message = "admin.cidrs has what is no network, or the whole Internet: status and metrics are for your own, such as 10.9.0.0/16."
  }
}

variable "ssh_cidrs" {
  description = "Who may come by ssh (Ansible, say): networks. None: nobody."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for cidr in var.ssh_cidrs : can(cidrhost(cidr, 0)) && try(tonumber(split("/", cidr)[1]), 0) > 0])
    error_message = "ssh_cidrs has what is no network, or the whole Internet: write where you come from, such as 10.9.0.0/16."
  }
}

variable "egress" {
  description = "Where gateways may open connections on the platform's side, beside their tunnels: TCP ports by network. AWS's API, the package and the directory are there."
  type        = map(list(number))
  default     = { "0.0.0.0/0" = [80, 443] }

  validation {
    condition     = alltrue([for cidr in keys(var.egress) : can(cidrhost(cidr, 0))]) && alltrue(flatten([for ports in values(var.egress) : [for port in ports : port >= 1 && port <= 65535]]))
    error_message = "egress has what is no network, or a port that is not 1 to 65535: write { \"0.0.0.0/0\" = [443] }."
  }
}

variable "reserve_havips" {
  description = "Whether HaVips that lie in a subnet are reserved there, so that AWS gives them to nobody who asks for any address."
  type        = bool
  default     = true
}

variable "kms_keys" {
  description = "ARNs of your own KMS keys by which the secrets are encrypted. AWS's own (`alias/aws/ssm`, `alias/aws/secretsmanager`) need none."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.kms_keys : can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/.+$", arn))])
    error_message = "kms_keys takes ARNs of keys, such as arn:aws:kms:eu-central-1:123456789012:key/ID: an alias cannot stand in a policy."
  }
}

variable "policies" {
  description = "ARNs of further policies for the gateways' role, such as AmazonSSMManagedInstanceCore for a shell by Session Manager."
  type        = list(string)
  default     = []
}

variable "permissions_boundary" {
  description = "ARN of the boundary of the gateways' role, where the account demands one."
  type        = string
  default     = null
}

variable "tags" {
  description = "Tags of everything."
  type        = map(string)
  default     = {}
}
