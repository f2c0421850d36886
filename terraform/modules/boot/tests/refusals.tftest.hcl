# What each validation refuses, a run for each: everything else in it is good.

variables {
  role   = "gateway"
  config = "gateway: {}"
}

run "a_role_that_there_is_not" {
  command = plan

  variables {
    role = "directory"
  }

  expect_failures = [var.role]
}

run "a_word_that_is_not_found_again" {
  command = plan

  variables {
    words = { eu-central-1a = { "the router" = "172.16.101.1" } }
  }

  expect_failures = [var.words]
}

run "an_interface_with_a_long_name" {
  command = plan

  variables {
    interfaces = { tenantswithlongnames = { macs = ["0a:00:00:00:00:01"] } }
  }

  expect_failures = [var.interfaces]
}

run "a_secret_in_clear" {
  command = plan

  variables {
    secrets = { "/etc/portway/ha.key" = "0123456789abcdef" }
  }

  expect_failures = [var.secrets]
}

run "a_package_of_nowhere" {
  command = plan

  variables {
    package = { sha256 = "0000000000000000000000000000000000000000000000000000000000000000" }
  }

  expect_failures = [var.package]
}

run "a_package_over_http" {
  command = plan

  variables {
    package = { sha256 = "0000000000000000000000000000000000000000000000000000000000000000", url = "http://example.com/portway.deb" }
  }

  expect_failures = [var.package]
}

run "a_package_without_a_digest" {
  command = plan

  variables {
    package = { sha256 = "latest", url = "https://example.com/portway.deb" }
  }

  expect_failures = [var.package]
}
