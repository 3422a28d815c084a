using System.Text.Json;
using static Microsoft.Playwright.Assertions;

namespace Sessions.Tests.Browser;

/// <summary>What users, models and tools say is shown, and never done.</summary>
public sealed class HostileTextTests(Chromium chromium)
{
    private static readonly string[] Corpus =
    [
        "<script>window.hacked = 1; alert(1)</script>",
        "<img src=x onerror=\"window.hacked=1\"><svg onload=window.hacked=1>",
        "<iframe srcdoc=\"<script>parent.hacked=1</script>\"></iframe><object data=javascript:alert(1)>",
        "[click](javascript:window.hacked=1) [click](JaVaScRiPt:alert(1)) [click](java\tscript:alert(1)) [click](&#106;avascript:alert(1))",
        "[click](data:text/html,<script>parent.hacked=1</script>) [click](vbscript:x) [click](file:///etc/passwd) [click](//evil.example)",
        "![x](https://evil.example/pixel.png) ![x](data:image/svg+xml,<svg onload=alert(1)>) "
        + "<https://evil.example/\"onmouseover=\"window.hacked=1>",
        "[x](https://evil.example/\"onclick=\"window.hacked=1) [x](https://evil.example 'title\" onclick=alert(1)')",
        "`` `<b>` `` ```html\n<script>window.hacked=1</script>\n``` "
            + "~~~js onerror=alert(1)\n</code></pre><script>window.hacked=1</script>\n~~~",
        "| a | b |\n|---|---|\n| <img src=x onerror=window.hacked=1> | [x](javascript:alert(1)) |",
        "\u202Egnp.exe\u202C \u2066abc\u2069 שלום עולם \u200Fمرحبا <b>x</b>",
        "# <style>*{display:none}</style>\n<link rel=stylesheet href=https://evil.example/x.css><base href=https://evil.example/>",
        "<form action=https://evil.example><input name=q autofocus onfocus=window.hacked=1><button>send</button></form>",
        "{{constructor.constructor('window.hacked=1')()}} ${window.hacked=1} <%= 1 %> %3Cscript%3E",
        "a\0b \uFFFD \u0001 \u2028 \u2029 </textarea><script>window.hacked=1</script>",
        string.Concat(Enumerable.Repeat("> ", 500)) + "deep " + string.Concat(Enumerable.Repeat("- ", 500))
            + string.Concat(Enumerable.Repeat("[", 5000)) + string.Concat(Enumerable.Repeat("*_`", 5000)),
    ];

    [Fact]
    public async Task Nothing_that_was_said_is_executed_fetched_or_made_a_link_that_runs()
    {
        await using var model = await ScriptedModel.StartAsync();
        await using var server = SessionsServer.Start([.. model.Agent("advanced"), ("sessions:max_sessions_per_user", "0")]);
        const string Session = "hostile";
        foreach (var text in Corpus)
        {
            await AppendAsync(server, new { query = text, response = text, agent_type = "<b onclick=alert(1)>agent" });
        }

        var arguments = JsonSerializer.Serialize(new { text = Corpus[1] });
        var call = new { type = "function_call", call_id = "c1", name = Corpus[0], arguments };
        await AppendAsync(server, new { query = Corpus[1], output = new object[] { call } });
        var output = new { type = "function_call_output", call_id = "c1", output = Corpus[2] };
        await AppendAsync(server, new { input = new object[] { output }, response = Corpus[3] });
        var patched = await server.SendAsync(HttpMethod.Patch, $"/sessions/{Session}",
            JsonSerializer.Serialize(new { metadata = new Dictionary<string, string> { ["<img src=x onerror=alert(1)>"] = Corpus[0] } }));
        Assert.Equal(200, patched.Status);
        await using var console = await chromium.OpenAsync(server.Client.BaseAddress!);

        await console.GoAsync($"chat/{Session}");
        await Expect(console.Page.Locator(".turn")).ToHaveCountAsync(Corpus.Length + 2);
        foreach (var fold in await console.Page.Locator(".fold summary").AllAsync())
        {
            await fold.ClickAsync();
        }

        await IsHarmlessAsync(console);

        // The same as it is streamed.
        await console.GoAsync("chat");
        foreach (var text in Corpus.Where(text => !text.Contains('\0', StringComparison.Ordinal)))
        {
            await console.AskAsync("say " + text);
        }

        await IsHarmlessAsync(console);

        await console.GoAsync($"sessions/{Session}");
        await Expect(console.Page.Locator(".numbered")).ToHaveCountAsync(Corpus.Length + 2);
        await IsHarmlessAsync(console);
        await console.GoAsync($"users/{Uri.EscapeDataString("<img src=x onerror=window.hacked=1>")}");
        await Expect(console.Page.Locator(".user h2")).ToHaveTextAsync("<img src=x onerror=window.hacked=1>");
        await IsHarmlessAsync(console);
    }

    [Fact]
    public async Task An_answer_of_a_mebibyte_is_shown_in_steps_and_the_page_stays_quick()
    {
        await using var server = SessionsServer.Start([]);
        string[] answers =
        [
            string.Concat(Enumerable.Repeat("A line of **text** with `code`.\n\n", 33_000))[..(1 << 20)],
            new('x', 1 << 20), new('[', 1 << 20), new('`', 1 << 20), string.Concat(Enumerable.Repeat("*a ", 1 << 18)),
            string.Concat(Enumerable.Repeat("# " + new string(' ', 1000) + "x\n", 1000)),
            "| a |\n" + string.Concat(Enumerable.Repeat("- ", 1 << 18)),
        ];
        await using var console = await chromium.OpenAsync(server.Client.BaseAddress!);
        for (var i = 0; i < answers.Length; i++)
        {
            Assert.Equal(201, (await server.PostAsync($"/sessions/s{i}/turns", new { query = "long", response = answers[i] })).Status);
            await console.GoAsync($"chat/s{i}");
            await Expect(console.Page.Locator(".turn")).ToHaveCountAsync(1);
            await console.Page.GetByText("Show more").First.ClickAsync();
        }

        await console.AskAsync("still there?");
        console.IsSound();
    }

    private static async Task AppendAsync(SessionsServer server, object turn)
    {
        var answer = await server.SendAsync(HttpMethod.Post, "/sessions/hostile/turns", JsonSerializer.Serialize(turn));
        Assert.True(answer.Status == 201, answer.Text);
    }

    private static async Task IsHarmlessAsync(ConsolePage console)
    {
        Assert.False(await console.Page.EvaluateAsync<bool>("'hacked' in window"));
        var found = await console.Page.EvaluateAsync<string[]>(
            """
            () => [
              ...[...document.querySelectorAll('iframe, object, embed, base, link:not(head link), style, script:not(head script), '
                + 'main form[action], main img, main svg script, main video')].map(e => e.outerHTML.slice(0, 80)),
              ...[...document.querySelectorAll('main a')].filter(a => !/^(https?:|mailto:|#|\.\.\/)/.test(a.getAttribute('href')))
                .map(a => `link: ${a.getAttribute('href')}`),
              ...[...document.querySelectorAll('main *')].flatMap(e => [...e.attributes]
                .filter(a => a.name.startsWith('on') || a.name === 'srcdoc').map(a => `${e.localName} ${a.name}`)),
              ...[...document.querySelectorAll('main a[target=_blank]')].filter(a => !a.relList.contains('noopener'))
                .map(a => `opener: ${a.href}`),
            ]
            """);
        Assert.Empty(found);
        console.IsSound();
    }
}
