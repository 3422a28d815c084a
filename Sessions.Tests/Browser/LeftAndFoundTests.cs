using Microsoft.Playwright;
using static Microsoft.Playwright.Assertions;

namespace Sessions.Tests.Browser;

/// <summary>What is left in the console and what is there on return; and what can't be had as it was asked for.</summary>
public sealed class LeftAndFoundTests(Chromium chromium)
{
    [Fact]
    public async Task A_turn_that_runs_is_found_again_from_another_page()
    {
        await using var model = await ScriptedModel.StartAsync();
        await using var server = SessionsServer.Start(model.Agent("advanced"));
        await using var console = await chromium.OpenAsync(server.Client.BaseAddress!);
        var page = console.Page;
        await console.GoAsync("chat");
        await console.SendAsync("hold");
        await Expect(page.Locator(".turn.running .answer")).ToContainTextAsync("It begins");

        await page.Locator("[data-page=users]").ClickAsync();
        await Expect(page.Locator(".turn.running")).ToHaveCountAsync(0);
        await page.Locator("[data-page=chat]").ClickAsync();
        await Expect(page.Locator(".turn.running .answer")).ToContainTextAsync("It begins");
        model.LetGo();

        await Expect(page.Locator(".turn:not(.running) .answer")).ToContainTextAsync("It begins");
        Assert.Single(model.Requests);
        console.IsSound();
    }

    [Fact]
    public async Task A_session_that_was_deleted_while_a_turn_ran_stays_deleted()
    {
        await using var model = await ScriptedModel.StartAsync();
        await using var server = SessionsServer.Start(model.Agent("advanced"));
        await using var console = await chromium.OpenAsync(server.Client.BaseAddress!);
        var page = console.Page;
        await server.QueryAsync("say first", "s");
        await console.GoAsync("chat/s");
        await Expect(page.Locator(".turn")).ToHaveCountAsync(1);
        await console.SendAsync("hold");
        await Expect(page.Locator(".turn.running .answer")).ToContainTextAsync("It begins");

        await page.GetByLabel("The session with all its turns").ClickAsync();
        await page.GetByRole(AriaRole.Button, new() { Name = "Delete" }).ClickAsync();
        await console.ClickAsync(
            page.GetByRole(AriaRole.Dialog).GetByRole(AriaRole.Button, new() { Name = "Delete" }), "The session is gone.");
        model.LetGo();
        await page.Locator("[data-page=chat]").ClickAsync();

        // Another conversation runs to its end: what would be asked before it would be there too.
        await console.AskAsync("say second");
        Assert.Equal(404, (await server.GetAsync("/sessions/s")).Status);
        Assert.Equal(3, model.Requests.Count);
        console.IsSound();
    }

    [Fact]
    public async Task A_session_of_nobody_stays_nobodys()
    {
        await using var server = SessionsServer.Start([]);
        await server.QueryAsync("hello", "s");
        await using var console = await chromium.OpenAsync(server.Client.BaseAddress!);
        var page = console.Page;
        await console.GoAsync("sessions/s");
        await page.GetByRole(AriaRole.Button, new() { Name = "nobody" }).ClickAsync();
        await page.GetByRole(AriaRole.Dialog).GetByLabel("User").FillAsync("ada");
        await page.GetByRole(AriaRole.Button, new() { Name = "Go on" }).ClickAsync();
        await page.GetByRole(AriaRole.Link, new() { Name = "Open in chat" }).ClickAsync();
        await Expect(page.Locator("chat-page .turn")).ToHaveCountAsync(1);

        await console.AskAsync("and again");

        Assert.Null((string?)(await server.GetAsync("/sessions/s")).Json["user_id"]);
        console.IsSound();
    }

    [Fact]
    public async Task An_output_is_asked_for_where_it_can_be_appended()
    {
        await using var server = SessionsServer.Start([]);
        await server.QueryAsync("hello", "s");
        await server.PostAsync("/sessions/s/turns", """
            {"query":"weather?","output":[{"type":"function_call","call_id":"c1","name":"get_weather","arguments":"{}"}]}
            """);
        await using var console = await chromium.OpenAsync(server.Client.BaseAddress!);
        await console.GoAsync("chat/s");
        await Expect(console.Page.Locator(".waiting")).ToHaveCountAsync(1);

        await server.PostAsync("/query", new { query = "another", thread_id = "s", after_turn = 1 });
        await console.GoAsync("chat/s");
        await console.Page.GetByLabel("The branch before").ClickAsync();

        await Expect(console.Page.Locator(".turn").Nth(1)).ToContainTextAsync("weather?");
        await Expect(console.Page.Locator(".waiting")).ToHaveCountAsync(0);
        console.IsSound();
    }

    [Fact]
    public async Task Metadata_may_have_any_name()
    {
        await using var server = SessionsServer.Start([]);
        await server.PostAsync("/sessions", """{"session_id":"s","metadata":{"constructor":"c","__proto__":"p","topic":"tea"}}""");
        await using var console = await chromium.OpenAsync(server.Client.BaseAddress!);
        await console.GoAsync("sessions/s");

        await console.Page.GetByLabel("Metadata as JSON").FillAsync("""{"topic":"tea","__proto__":"q"}""");
        await console.ClickAsync(console.Page.GetByRole(AriaRole.Button, new() { Name = "Save" }), "Saved.");

        var stored = (await server.GetAsync("/sessions/s")).Json["metadata"]!;
        Assert.Null(stored["constructor"]);
        Assert.Equal("q", (string?)stored["__proto__"]);
        console.IsSound();
    }

    [Fact]
    public async Task A_list_that_failed_is_asked_for_again()
    {
        await using var server = SessionsServer.Start([]);
        await server.QueryAsync("hello", "s");
        await using var console = await chromium.OpenAsync(server.Client.BaseAddress!);
        await console.Page.RouteAsync("**/sessions?*", route => route.AbortAsync(), new() { Times = 1 });
        await console.GoAsync("sessions");

        await console.Page.GetByRole(AriaRole.Button, new() { Name = "Try again" }).ClickAsync();

        await Expect(console.Page.Locator(".row-item")).ToHaveCountAsync(1);
        console.IsSound();
    }

    [Fact]
    public async Task A_broken_address_and_a_key_that_no_header_can_hold_are_told()
    {
        await using var server = SessionsServer.Start([("auth:mode", "api_key"), .. AuthTests.Setting("app", ApiKeys.NewKey(), "service")]);
        await using var console = await chromium.OpenAsync(server.Client.BaseAddress!);
        await console.GoAsync("chat");
        var key = console.Page.GetByLabel("API key or token");
        await key.FillAsync("ключ");
        await key.PressAsync("Enter");
        Assert.Contains("ASCII", await key.EvaluateAsync<string>("input => input.validationMessage"), StringComparison.Ordinal);

        await using var open = SessionsServer.Start([]);
        await using var other = await chromium.OpenAsync(open.Client.BaseAddress!);
        await other.GoAsync("sessions/%");
        await Expect(other.Page.Locator(".session")).ToContainTextAsync("session_not_found");
        console.IsSound();
        other.IsSound();
    }
}
