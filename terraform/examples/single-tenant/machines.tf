# What is not Portway's: a function host, and a server in the tenant's network.

data "aws_ssm_parameter" "image" {
  count = var.image == null ? 1 : 0

  name = "/aws/service/debian/release/12/latest/amd64"
}

locals {
  image = nonsensitive(try(data.aws_ssm_parameter.image[0].value, var.image))
}

resource "aws_key_pair" "this" {
  key_name_prefix = "${var.name}-"
  public_key      = var.ssh_key
}

resource "aws_vpc_security_group_ingress_rule" "ssh" {
  security_group_id = module.hosts.security_group_id
  description       = "you"
  ip_protocol       = "tcp"
  from_port         = 22
  to_port           = 22
  cidr_ipv4         = var.ssh_from
}

resource "aws_vpc_security_group_egress_rule" "ssh" {
  security_group_id = module.hosts.security_group_id
  description       = "ssh to gateways"
  ip_protocol       = "tcp"
  from_port         = 22
  to_port           = 22
  cidr_ipv4         = aws_subnet.gateways.cidr_block
}

resource "aws_instance" "host" {
  for_each = local.hosts

  ami                         = local.image
  instance_type               = "t3.small"
  subnet_id                   = aws_subnet.hosts.id
  private_ip                  = each.value.outer
  associate_public_ip_address = true
  vpc_security_group_ids      = [module.hosts.security_group_id]
  iam_instance_profile        = module.hosts.instance_profile
  key_name                    = aws_key_pair.this.key_name
  user_data_base64            = module.hosts.user_data_base64[each.key]
  tags                        = { Name = "${var.name}-${each.key}" }

  metadata_options {
    http_tokens = "required"
  }

  lifecycle {
    ignore_changes = [ami, user_data_base64]
  }

  depends_on = [aws_route.hosts, aws_route_table_association.hosts]
}

# It says who asks: the tenant HaVip.
resource "aws_security_group" "server" {
  name        = "${var.name}-server"
  description = "A server of acme"
  vpc_id      = aws_vpc.acme.id

  ingress {
    description = "HTTP from the network of acme"
    protocol    = "tcp"
    from_port   = 80
    to_port     = 80
    cidr_blocks = [aws_vpc.acme.cidr_block]
  }
}

resource "aws_instance" "server" {
  ami                    = local.image
  instance_type          = "t3.micro"
  subnet_id              = aws_subnet.acme.id
  private_ip             = "172.16.101.20"
  vpc_security_group_ids = [aws_security_group.server.id]
  user_data              = file("${path.module}/server.yaml")
  tags                   = { Name = "${var.name}-acme-server" }

  metadata_options {
    http_tokens = "required"
  }

  lifecycle {
    ignore_changes = [ami]
  }
}
