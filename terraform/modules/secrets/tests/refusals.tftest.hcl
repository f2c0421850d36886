# What each validation refuses, a run for each: everything else in it is good. Terraform's mocks know no ephemeral resources yet, so that keys are made is
# seen where the example is applied.

mock_provider "aws" {}

variables {
  prefix = "/portway/prod"
  keys   = {}
}

run "a_prefix_without_a_slash" {
  command = plan

  variables {
    prefix = "portway"
  }

  expect_failures = [var.prefix]
}

run "a_prefix_of_AWS" {
  command = plan

  variables {
    prefix = "/aws/portway"
  }

  expect_failures = [var.prefix]
}

run "a_name_with_a_slash" {
  command = plan

  variables {
    keys = { "ha/1" = { kind = "ha" } }
  }

  expect_failures = [var.keys]
}

run "a_key_of_no_kind" {
  command = plan

  variables {
    keys = { ha = { kind = "rsa" } }
  }

  expect_failures = [var.keys]
}

run "a_generation_before_the_first" {
  command = plan

  variables {
    keys = { ha = { kind = "ha", generation = 0 } }
  }

  expect_failures = [var.keys]
}
